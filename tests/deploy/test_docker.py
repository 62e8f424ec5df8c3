"""deploy/docker: the Dockerfile and the compose file. Building the image takes Docker, which is not asked for here."""

import json
import pathlib
import re
import shutil
import tempfile
import unittest

import yaml

from support import DEPLOY, ROOT, doorward_check, run

HERE = DEPLOY / "docker"


class Docker(unittest.TestCase):
    def test_hadolint_finds_nothing(self):
        run(["hadolint", HERE / "Dockerfile"])

    def test_compose_follows_its_specification(self):
        run(["check-jsonschema", "--builtin-schema", "vendor.compose-spec", HERE / "compose.yaml"])

    def test_files_that_compose_names_exist_and_nobody_gets_around_doorward(self):
        compose = yaml.safe_load((HERE / "compose.yaml").read_text())
        services = compose["services"]
        self.assertTrue((HERE / services["doorward"]["build"]["context"] / "deploy/docker/Dockerfile").is_file())
        self.assertTrue((HERE / "doorward.toml").is_file())
        self.assertEqual(services["app"]["networks"], ["inside"])
        self.assertNotIn("ports", services["app"])
        self.assertTrue(compose["networks"]["inside"]["internal"])

    def test_secrets_are_not_committed(self):
        if not (ROOT / ".git").exists():
            self.skipTest("no git checkout")
        for name in ("secrets/client-secret", "secrets/session-key", ".env"):
            run(["git", "-C", ROOT, "check-ignore", "--quiet", HERE / name])

    def test_the_build_context_has_what_cargo_reads_and_no_more(self):
        lines = (HERE / "Dockerfile.dockerignore").read_text().splitlines()
        rules = [line for line in lines if line and not line.startswith("#")]
        self.assertEqual(rules[0], "*")
        with tempfile.TemporaryDirectory() as directory:
            context = pathlib.Path(directory)
            for kept in (rule.removeprefix("!") for rule in rules[1:]):
                copy = shutil.copytree if (ROOT / kept).is_dir() else shutil.copy
                copy(ROOT / kept, context / kept)
            # Every target that Cargo.toml has or cargo finds.
            printed = run(["cargo", "metadata", "--offline", "--no-deps", "--format-version=1"], cwd=context)
            [package] = json.loads(printed)["packages"]
            for target in package["targets"]:
                self.assertTrue(pathlib.Path(target["src_path"]).is_file(), target["name"])
            self.assertIn("doorward", [target["name"] for target in package["targets"] if "bin" in target["kind"]])
            # And what the sources include, their tests aside.
            for source in (context / "src").rglob("*.rs"):
                for name in re.findall(r'include_(?:str|bytes)!\(\s*"([^"]+)"', source.read_text()):
                    if "tests" not in source.parts and source.stem != "tests":
                        self.assertTrue((source.parent / name).is_file(), f"{source}: {name}")

    def test_the_configuration_passes_doorward_check_with_the_variables_of_compose(self):
        compose = yaml.safe_load((HERE / "compose.yaml").read_text())
        # ${NAME:-default} is the default where nobody set it.
        given = compose["services"]["doorward"]["environment"].items()
        env = {name: value.partition(":-")[2].removesuffix("}") for name, value in given}
        printed = doorward_check((HERE / "doorward.toml").read_text(), env)
        self.assertIn("http://localhost:4180/oauth2/callback", printed)
