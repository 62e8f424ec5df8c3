"""deploy/systemd: systemd's own verdict."""

import pathlib
import shutil
import subprocess
import tempfile
import unittest

from support import DEPLOY, run

HERE = DEPLOY / "systemd"
# Of 10; less is better. The README says it.
EXPOSURE = 1.5


@unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is missing: apt-get install systemd")
class Systemd(unittest.TestCase):
    def units(self, directory):
        """The units, with a program that exists."""
        for unit in HERE.glob("doorward.*"):
            text = unit.read_text().replace("/usr/bin/doorward ", "/bin/true ")
            (pathlib.Path(directory) / unit.name).write_text(text)
        return sorted(pathlib.Path(directory).iterdir())

    def test_systemd_has_nothing_to_say_about_the_units(self):
        with tempfile.TemporaryDirectory() as directory:
            units = self.units(directory)
            self.assertEqual([unit.name for unit in units], ["doorward.service", "doorward.socket"])
            # What it only warns of leaves the status 0.
            verdict = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
            self.assertEqual((verdict.returncode, verdict.stdout + verdict.stderr), (0, ""))

    def test_the_service_is_no_more_exposed_than_the_readme_says(self):
        with tempfile.TemporaryDirectory() as directory:
            service = self.units(directory)[0]
            command = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={int(EXPOSURE * 10)}"]
            run([*command, service])
        self.assertIn(f"{EXPOSURE} of 10", (HERE / "README.md").read_text())
