"""deploy/docker: the Dockerfile and the compose file. Building the image takes Docker, which is not asked for here."""

import json
import os
import pathlib
import re
import shutil
import tempfile
import tomllib
import unittest

import yaml

from support import DEPLOY, ROOT, doorward, doorward_check, run

HERE = DEPLOY / "docker"
# In place of those that the README calls. This docker has an image once it was built, and its user is who runs the test;
# a directory or file that is mounted is named as a path, for what is not one is a volume, and what is missing a new directory.
PROGRAMS = {
    "docker": """#!/bin/bash
set -euo pipefail
case "$*" in
    "build -f "*) test -f "$3" -a -d "${!#}"; touch "$SEEN/built" ;;
    "compose up") printenv > "$SEEN/up" ;;
    "run "*" doorward key") test -f "$SEEN/built"; exec "$DOORWARD" key ;;
    "run "*" doorward demo") test -f "$SEEN/built" ;;
    "run "*" doorward")
        while [ $# -gt 0 ]; do
            if [ "$1" = -v ]; then case "$2" in /etc/doorward*) ;; *) echo "mounts $2" >&2; exit 1 ;; esac; fi
            shift
        done ;;
    *) echo "docker $*: unknown" >&2; exit 1 ;;
esac
""",
    # Only root can give a file away.
    "sudo": """#!/bin/bash
case "$1" in chown) shift 2; ls -- "$@" ;; *) exec "$@" ;; esac
""",
}


def targets(directory):
    """What is compiled of the package: name and path of each target, tests aside."""
    printed = run(["cargo", "metadata", "--offline", "--no-deps", "--format-version=1"], cwd=directory)
    [package] = json.loads(printed)["packages"]
    found = [t for t in package["targets"] if t["kind"] not in (["test"], ["example"])]
    return {(*t["kind"], t["name"], str(pathlib.Path(t["src_path"]).relative_to(directory.resolve()))) for t in found}


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

    def test_the_image_is_built_from_all_that_cargo_reads(self):
        with tempfile.TemporaryDirectory() as directory:
            context = pathlib.Path(directory)
            self.copy_context(context)
            # Wanted by --locked; and where the templates are, without which askama looks elsewhere.
            self.assertIn("cargo build --release --locked", (HERE / "Dockerfile").read_text())
            self.assertTrue((context / "Cargo.lock").is_file())
            dirs = tomllib.loads((context / "askama.toml").read_text())["general"]["dirs"]
            # A target that Cargo.toml names and that is not there is an error for cargo build, and nothing to cargo metadata.
            self.assertEqual(targets(context), targets(ROOT))
            for source in (context / "src").rglob("*.rs"):
                # Those of tests are not compiled here.
                if "tests" in source.parts or source.stem == "tests":
                    continue
                text = source.read_text()
                for argument in re.findall(r"include_(?:str|bytes)!\(\s*([^)]*)\)", text):
                    [name] = re.fullmatch(r'"([^"]+)",?\s*', argument).groups()
                    self.assertTrue((source.parent / name).is_file(), f"{source}: {name}")
                for name in re.findall(r'#\[template\(path = "([^"]+)"', text):
                    self.assertTrue(any((context / place / name).is_file() for place in dirs), f"{source}: {name}")

    def copy_context(self, to):
        """What COPY gets, of what Dockerfile.dockerignore lets through."""
        lines = (HERE / "Dockerfile.dockerignore").read_text().splitlines()
        nothing, *kept = [line for line in lines if line and not line.startswith("#")]
        self.assertEqual(nothing, "*")
        copied = re.findall(r"^COPY (?!--from=)(.+) (\S+)$", (HERE / "Dockerfile").read_text(), re.MULTILINE)
        # Another way to copy has to be taught here first.
        self.assertEqual(copied, [(".", ".")])
        for name in kept:
            self.assertTrue(name.startswith("!"), name)
            source = ROOT / name.removeprefix("!")
            (shutil.copytree if source.is_dir() else shutil.copy)(source, to / source.name)

    def test_the_commands_of_the_readme_work_as_they_stand(self):
        commands = "\n".join(re.findall(r"```sh\n(.*?)```", (HERE / "README.md").read_text(), re.DOTALL))
        with tempfile.TemporaryDirectory() as directory:
            top, programs = pathlib.Path(directory, "top"), pathlib.Path(directory, "bin")
            here = top / "deploy/docker"
            shutil.copytree(HERE, here, ignore=shutil.ignore_patterns("secrets", ".env"))
            programs.mkdir()
            for name, script in PROGRAMS.items():
                (programs / name).write_text(script)
                (programs / name).chmod(0o755)
            env = {"PATH": f"{programs}:/usr/bin:/bin", "DOORWARD": os.path.abspath(doorward()), "SEEN": directory}
            run(["bash", "-euo", "pipefail", "-c", commands], cwd=top, env=env)

            # What compose then starts: with the files that were made, and the variables that were given.
            given = dict(line.split("=", 1) for line in pathlib.Path(directory, "up").read_text().splitlines() if "=" in line)
            compose = yaml.safe_load((here / "compose.yaml").read_text())
            for secret in compose["secrets"].values():
                self.assertEqual((here / secret["file"]).stat().st_mode & 0o777, 0o400)
            env = {
                name: given.get(variable, default)
                for name, value in compose["services"]["doorward"]["environment"].items()
                for variable, default in [re.fullmatch(r"\$\{(\w+):-(.*)\}", value).groups()]
            }
            self.assertEqual(env["DOORWARD_PROVIDER__MAIN__ISSUER"], given["OIDC_ISSUER"])
            toml = (here / "doorward.toml").read_text().replace("/run/secrets/", f"{here}/secrets/")
            (here / "doorward.toml").write_text(toml)
            printed = run([doorward(), "check", "--config", here / "doorward.toml"], env=env)
            self.assertIn("http://localhost:4180/oauth2/callback", printed)
            self.assertIn("http://localhost:4180/oauth2/callback", (HERE / "README.md").read_text())

    def test_the_configuration_passes_doorward_check_with_the_variables_of_compose(self):
        compose = yaml.safe_load((HERE / "compose.yaml").read_text())
        # ${NAME:-default} is the default where nobody set it.
        given = compose["services"]["doorward"]["environment"].items()
        env = {name: value.partition(":-")[2].removesuffix("}") for name, value in given}
        printed = doorward_check((HERE / "doorward.toml").read_text(), env)
        self.assertIn("http://localhost:4180/oauth2/callback", printed)
