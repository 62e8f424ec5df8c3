"""deploy/systemd: systemd's own verdict."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

from support import DEPLOY, doorward, run

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

    def test_the_commands_of_the_readme_give_the_service_its_secrets(self):
        readme = (HERE / "README.md").read_text()
        [commands], [toml] = (re.findall(rf"```{kind}\n(.*?)```", readme, re.DOTALL) for kind in ("sh", "toml"))
        with tempfile.TemporaryDirectory() as directory:
            here, programs = pathlib.Path(directory, "here"), pathlib.Path(directory, "bin")
            etc, units = pathlib.Path(directory, "etc/doorward"), pathlib.Path(directory, "etc/systemd/system")
            shutil.copytree(HERE, here)
            for made in (programs, units):
                made.mkdir(parents=True)
            (programs / "systemctl").write_text("#!/bin/sh\n")
            (programs / "systemctl").chmod(0o755)
            (programs / "doorward").symlink_to(os.path.abspath(doorward()))
            (here / "client-secret").write_text("of-the-tests")
            (here / "doorward.toml").write_text(
                f'[server]\npublic_url = "https://app.example.com"\n{toml}'
                '[[route]]\npath = "/"\nupstream = "http://127.0.0.1:3000"\naccess = "authenticated"\n'
            )
            env = {"PATH": f"{programs}:/usr/bin:/bin"}
            run(["bash", "-euo", "pipefail", "-c", commands.replace("/etc/", f"{directory}/etc/")], cwd=here, env=env)

            modes = {file.name: file.stat().st_mode & 0o777 for file in etc.iterdir()}
            self.assertEqual(modes, {"doorward.toml": 0o644, "client-secret": 0o600, "session-key": 0o600})
            # What systemd then hands over is what the configuration asks for.
            dropin = (units / "doorward.service.d/secrets.conf").read_text()
            handed = dict(re.findall(r"^LoadCredential=([-\w]+):(\S+)$", dropin, re.MULTILINE))
            text = (etc / "doorward.toml").read_text()
            text = text.replace("[provider.main]", '[provider.main]\nissuer = "https://id.example.com"\nclient_id = "x"')
            for name, file in handed.items():
                text = text.replace(f"/run/credentials/doorward.service/{name}", file)
            (etc / "doorward.toml").write_text(text)
            run([doorward(), "check", "--config", etc / "doorward.toml"])
            # And the unit takes the drop-in.
            unit = units / "doorward.service"
            unit.write_text(unit.read_text().replace("/usr/bin/doorward ", "/bin/true "))
            verdict = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
            self.assertEqual((verdict.returncode, verdict.stdout + verdict.stderr), (0, ""))

    def test_the_service_checks_as_its_user_what_it_then_serves(self):
        lines = (HERE / "doorward.service").read_text().splitlines()
        [check], [serve] = ([line for line in lines if line.startswith(key)] for key in ("ExecStartPre=", "ExecStart="))
        # No prefix: `+` would make it root, `-` let a failure pass.
        self.assertEqual(check, serve.replace("ExecStart=", "ExecStartPre=").replace(" serve ", " check "))

    def test_the_service_is_no_more_exposed_than_the_readme_says(self):
        with tempfile.TemporaryDirectory() as directory:
            service = self.units(directory)[0]
            command = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={int(EXPOSURE * 10)}"]
            run([*command, service])
        self.assertIn(f"{EXPOSURE} of 10", (HERE / "README.md").read_text())
