"""What the tests of deploy/ share: where things are, kustomize, the schemas of kinds, and `doorward check`."""

import contextlib
import os
import pathlib
import random
import re
import socket
import subprocess
import tempfile
import unittest

import jsonschema
import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
# The newest two that the schemas are of.
KUBERNETES = ("1.37", "1.36")

# Traefik's Go module is too large to be built here: the fields that are used, as its documentation of 3.7 has them.
NAMES = {"type": "array", "items": {"type": "string"}}


def closed(required, **properties):
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


TRAEFIK = {
    "Middleware": closed(
        [],
        headers=closed(["customRequestHeaders"], customRequestHeaders={"type": "object"}),
        forwardAuth=closed(
            ["address"],
            address={"type": "string", "format": "uri"},
            trustForwardHeader={"type": "boolean"},
            authResponseHeaders=NAMES,
            authResponseHeadersRegex={"type": "string"},
            authRequestHeaders=NAMES,
            addAuthCookiesToResponse=NAMES,
            preserveLocationHeader={"type": "boolean"},
            preserveRequestMethod={"type": "boolean"},
            maxResponseBodySize={"type": "integer"},
        ),
    ),
    "IngressRoute": closed(
        ["routes"],
        entryPoints=NAMES,
        tls={"type": "object"},
        routes={
            "type": "array",
            "items": closed(
                ["kind", "match", "services"],
                kind={"const": "Rule"},
                match={"type": "string"},
                priority={"type": "integer"},
                middlewares={"type": "array", "items": closed(["name"], name={"type": "string"})},
                services={
                    "type": "array",
                    "items": closed(["name"], name={"type": "string"}, port={"type": ["string", "integer"]}),
                },
            ),
        },
    ),
}


def documents(text):
    return [document for document in yaml.safe_load_all(text) if document]


def run(command, **options):
    """What it printed, or an error that says all of it."""
    done = subprocess.run(command, text=True, capture_output=True, **options)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def kustomize(directory):
    return documents(run(["kubectl", "kustomize", directory]))


def named(objects, kind, name=None):
    found = [o for o in objects if o["kind"] == kind and name in (None, o["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


def validate(objects):
    """Every object against the schema of its kind, nothing unknown allowed."""
    custom = []
    for thing in objects:
        group = thing["apiVersion"].partition("/")[0]
        if group == "traefik.io":
            jsonschema.validate(thing["spec"], TRAEFIK[thing["kind"]])
        elif "." in group and not group.endswith(".k8s.io") or group.startswith("gateway."):
            custom.append(thing)
        else:
            for version in KUBERNETES:
                kubernetes_validate.validate(thing, version, strict=True)
    if custom:
        run(["kinds"], input=yaml.safe_dump_all(custom))


def restricted(pod):
    """Pod Security Standard `restricted`, and a root file system that cannot be written to."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False and context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]


def free_port():
    """One below the range that the system takes outgoing connections' ports from, so that none of those gets in between."""
    while True:
        port = random.randrange(10_000, 30_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def seconds(text):
    return int(re.fullmatch(r"(\d+)s", text).group(1))


def doorward():
    binary = os.environ.get("DOORWARD")
    if not binary:
        raise unittest.SkipTest("set DOORWARD to a binary")
    return binary


def doorward_check(toml, env=(), certificate=None):
    """`doorward check` of a configuration whose secrets are stand-ins. Returns what it printed."""
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory)
        # A file for each secret that is named; the directory in place of the one in the container.
        for secret in set(re.findall(r"/run/secrets/(?:doorward/)?([-a-z]+)", toml)):
            (path / secret).write_text(SECRETS.get(secret) or run([doorward(), "key"]))
        here = re.sub(r"/run/secrets/(?:doorward/)?", f"{directory}/", toml)
        (path / "doorward.toml").write_text(here)
        variables = {name: value.replace("/etc/doorward/tls", directory) for name, value in dict(env).items()}
        if certificate:
            (path / "tls.crt").write_text(certificate[0])
            (path / "tls.key").write_text(certificate[1])
        return run([doorward(), "check", "--config", path / "doorward.toml"], env=variables)


def certificate(directory):
    """Makes tls.crt and tls.key, and returns what they hold."""
    key, crt = directory / "tls.key", directory / "tls.crt"
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
         "-subj", "/CN=app.example.com", "-addext", "subjectAltName=DNS:app.example.com", "-keyout", key, "-out", crt])
    return crt.read_text(), key.read_text()


SECRETS = {"client-secret": "of-the-tests", "redis-url": "rediss://doorward:secret@redis.redis.svc.cluster.local:6379/0"}
