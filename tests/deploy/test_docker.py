"""deploy/docker: the Dockerfile and the compose file. Building the image takes Docker, which is not asked for here."""

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

    def test_the_build_context_has_what_cargo_reads_and_no_more(self):
        lines = (HERE / "Dockerfile.dockerignore").read_text().splitlines()
        rules = [line for line in lines if line and not line.startswith("#")]
        self.assertEqual(rules[0], "*")
        for kept in rules[1:]:
            self.assertTrue((ROOT / kept.removeprefix("!")).exists(), kept)
        self.assertLessEqual({"!Cargo.toml", "!Cargo.lock", "!askama.toml", "!src", "!benches"}, set(rules))

    def test_the_configuration_passes_doorward_check_with_the_variables_of_compose(self):
        compose = yaml.safe_load((HERE / "compose.yaml").read_text())
        # ${NAME:-default} is the default where nobody set it.
        given = compose["services"]["doorward"]["environment"].items()
        env = {name: value.partition(":-")[2].removesuffix("}") for name, value in given}
        printed = doorward_check((HERE / "doorward.toml").read_text(), env)
        self.assertIn("http://localhost:4180/oauth2/callback", printed)
