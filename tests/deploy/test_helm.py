"""deploy/helm/doorward: what Helm itself makes of the chart, with default, minimal and full values."""

import json
import pathlib
import re
import tempfile
import tomllib
import unittest

import helm_python as helm
import yaml

from support import DEPLOY, certificate, documents, doorward_check, named, restricted, validate

CHART = DEPLOY / "helm/doorward"
HERE = pathlib.Path(__file__).parent
VALUES = {
    "default": {"secret": {"existing": "doorward-secrets"}},
    "minimal": yaml.safe_load((HERE / "values-minimal.yaml").read_text()),
    "full": yaml.safe_load((HERE / "values-full.yaml").read_text()),
}
DEFAULT = yaml.safe_load((CHART / "values.yaml").read_text())


def render(values, name="door"):
    with helm.Chart.load(CHART) as chart:
        rendered = chart.render(values, name=name, namespace="doorward")
    notes = rendered.pop("doorward/templates/NOTES.txt")
    return [o for text in rendered.values() for o in documents(text)], notes


def backends(node):
    """Service and port of all that leads to a Service of Doorward."""
    if isinstance(node, list):
        for inner in node:
            yield from backends(inner)
    elif isinstance(node, dict):
        name, port = node.get("name"), node.get("port")
        if isinstance(name, str) and name.startswith("doorward") and port:
            yield name, port.get("name", port.get("number")) if isinstance(port, dict) else port
        for inner in node.values():
            yield from backends(inner)


def addresses(objects):
    """The same of URLs and host names of this cluster."""
    found = re.findall(r"(doorward[-a-z]*)\.doorward\.svc\.cluster\.local:(\d+)", yaml.safe_dump_all(objects))
    return {(name, int(port)) for name, port in found}


class Helm(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.rendered = {name: render(values) for name, values in VALUES.items()}

    def test_lint_finds_no_error_and_no_warning(self):
        for name, values in VALUES.items():
            with self.subTest(name):
                found = helm.lint(CHART, values=values, strict=True)
                self.assertEqual([m for m in found["messages"] if m["severity"] > 1], [])
                self.assertEqual(found["errors"], [])

    def test_every_object_is_valid_and_named_once(self):
        for name, (objects, _) in self.rendered.items():
            with self.subTest(name):
                validate(objects)
                names = [(o["kind"], o["metadata"]["name"]) for o in objects]
                self.assertEqual(len(names), len(set(names)))

    def test_what_is_off_is_not_there_and_what_is_on_is(self):
        kinds = {name: {o["kind"] for o in objects} for name, (objects, _) in self.rendered.items()}
        self.assertEqual(kinds["minimal"], {"ConfigMap", "Deployment", "Pod", "Service"})
        self.assertEqual(
            kinds["default"], kinds["minimal"] | {"NetworkPolicy", "PodDisruptionBudget", "ServiceAccount"}
        )
        more = {"HTTPRoute", "HorizontalPodAutoscaler", "Ingress", "PrometheusRule", "Secret", "ServiceMonitor"}
        self.assertEqual(kinds["full"], kinds["default"] | more)

    def test_pods_are_restricted_and_given_longer_than_a_drain(self):
        for name, (objects, _) in self.rendered.items():
            with self.subTest(name):
                pod = named(objects, "Deployment")["spec"]["template"]["spec"]
                restricted(pod)
                restricted(named(objects, "Pod")["spec"])
                drain = VALUES[name].get("drain", {"timeoutSeconds": 30})["timeoutSeconds"]
                self.assertGreater(pod["terminationGracePeriodSeconds"], drain)

    def test_the_configuration_passes_doorward_check_with_the_variables_of_the_pod(self):
        with tempfile.TemporaryDirectory() as directory:
            shown = certificate(pathlib.Path(directory))
        for name, (objects, _) in self.rendered.items():
            with self.subTest(name):
                toml = [o["data"]["doorward.toml"] for o in objects if "doorward.toml" in o.get("data", {})]
                containers = named(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
                env = {v["name"]: v["value"] for v in containers[0]["env"]}
                self.assertIn("the configuration is valid", doorward_check(toml[0], env, shown))

    def test_alerts_and_dashboard_are_those_of_the_repository(self):
        objects, _ = self.rendered["full"]
        alerts = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())
        self.assertEqual(named(objects, "PrometheusRule")["spec"], alerts)
        dashboard = named(objects, "ConfigMap", "sso-dashboard")["data"]["doorward.json"]
        self.assertEqual(json.loads(dashboard), json.loads((DEPLOY / "grafana/doorward.json").read_text()))

    def test_values_that_yaml_would_read_otherwise_stay_what_they_are(self):
        config = "\n    # indented\n" + VALUES["full"]["config"] + "\n\tx: |\n"
        values = {**VALUES["default"], "config": config, "nameOverride": "0123", "networkPolicy": {"from": ["1e3"], "adminFrom": ["0x10"]}}
        objects, _ = render(values, name="123")
        validate(objects)
        self.assertEqual(named(objects, "ConfigMap")["data"]["doorward.toml"].rstrip("\n"), config.rstrip("\n"))
        labels = named(objects, "Deployment")["spec"]["selector"]["matchLabels"]
        self.assertEqual(labels, {"app.kubernetes.io/name": "0123", "app.kubernetes.io/instance": "123"})

    def test_who_may_connect_is_who_is_named(self):
        def sources(objects):
            rules = named(objects, "NetworkPolicy")["spec"]["ingress"]
            names = [r.get("from") and [s["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for s in r["from"]] for r in rules]
            return dict(zip([r["ports"][0]["port"] for r in rules], names, strict=True))

        self.assertEqual(sources(self.rendered["default"][0]), {"http": None, "admin": ["monitoring"]})
        self.assertEqual(sources(self.rendered["full"][0]), {"http": ["ingress-nginx"], "admin": ["monitoring", "operators"]})

    def test_the_job_is_the_one_that_the_alerts_name(self):
        endpoint = named(self.rendered["full"][0], "ServiceMonitor")["spec"]["endpoints"][0]
        job = {"targetLabel": "job", "replacement": "doorward"}
        self.assertIn(job, endpoint["relabelings"])
        self.assertIn('up{job="doorward"}', (DEPLOY / "prometheus/alerts.yaml").read_text())

    def test_the_default_configuration_is_toml_without_secrets(self):
        with helm.Chart.load(CHART) as chart:
            toml = tomllib.loads(chart.values["config"])
        self.assertEqual(set(toml["provider"]["main"]["client_secret"]), {"file"})

    def test_wrong_values_are_refused(self):
        wrong = {
            "an unknown value": {"replica": 2},
            "an unknown value inside": {"image": {"name": "x"}},
            "text for a number": {"replicas": "two"},
            "no configuration": {"config": ""},
            "a pull policy that is none": {"image": {"pullPolicy": "Sometimes"}},
            "a tag in place of a digest": {"image": {"digest": "latest"}},
            "a port that is none": {"service": {"port": 70000}},
            "a secret that is no text": {"secret": {"data": {"client-secret": 1}}},
            "a name that is none": {"fullnameOverride": "Not_A_Name"},
        }
        for name, values in wrong.items():
            with self.subTest(name), self.assertRaises(helm.HelmError):
                render({**VALUES["default"], **values})

    def test_missing_secrets_and_gateways_are_refused_with_what_to_do(self):
        with self.assertRaisesRegex(helm.HelmError, "set secret.existing to a Secret"):
            render({})
        with self.assertRaisesRegex(helm.HelmError, "name the Gateway"):
            render({**VALUES["default"], "httpRoute": {"enabled": True}})

    def test_notes_warn_of_replicas_that_share_nothing(self):
        def notes(more="", **values):
            return render({**VALUES["default"], "config": DEFAULT["config"] + more, **values})[1]

        self.assertNotIn("WARNING", self.rendered["full"][1])
        self.assertNotIn("WARNING", notes())
        self.assertIn('without store = "redis"', render({**VALUES["default"], "replicas": 3})[1])
        self.assertIn('without store = "redis"', notes(autoscaling={"enabled": True}))
        self.assertIn('without store = "redis"', notes('# store = "redis"\nx = 1  # store = "redis"\n', replicas=2))
        for redis in ('[session]\n  store="redis"', "session.store = 'redis'", 'session = { store = "redis" }'):
            self.assertNotIn("WARNING", notes(redis, replicas=2), redis)
        self.assertIn('with store = "memory"', notes('store = "memory" # not "redis"', replicas=2))
        env = [{"name": "DOORWARD_SESSION__STORE", "value": "redis"}]
        self.assertNotIn("WARNING", notes('store = "memory"', replicas=2, extraEnv=env))

    def test_the_recipes_for_proxies_that_ask_fit_a_release_as_the_readme_makes_it(self):
        kubernetes = DEPLOY / "kubernetes"
        for directory, values in (("ingress-sso", {}), ("gateway-api", {"grpc": {"enabled": True}})):
            toml = (kubernetes / directory / "doorward/doorward.toml").read_text()
            objects, _ = render({**VALUES["default"], **values, "config": toml}, name="doorward")
            containers = named(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
            doorward_check(toml, {v["name"]: v["value"] for v in containers[0]["env"]})
            services = [o for o in objects if o["kind"] == "Service"]
            ports = {(s["metadata"]["name"], key) for s in services for p in s["spec"]["ports"] for key in (p["name"], p["port"])}
            ours = [o for d in sorted(kubernetes.joinpath(directory).rglob("*.yaml")) for o in documents(d.read_text())]
            asked = set(backends(ours)) | addresses(ours)
            self.assertGreaterEqual(len(asked), 2, directory)
            self.assertLessEqual(asked, ports, directory)

    def test_the_pod_listens_where_the_service_leads(self):
        objects, _ = render({**VALUES["default"], "config": '[server]\nlisten = ["127.0.0.1:4180"]\n'})
        [container] = named(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
        env = {v["name"]: v["value"] for v in container["env"]}
        [port] = [p["containerPort"] for p in container["ports"] if p["name"] == "http"]
        self.assertEqual(json.loads(env["DOORWARD_SERVER__LISTEN"]), [f"0.0.0.0:{port}"])
