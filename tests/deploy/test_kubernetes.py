"""deploy/kubernetes: what kustomize makes of it."""

import re
import tomllib
import unittest

import yaml

from support import DEPLOY, ROOT, doorward_check, kustomize, named, restricted, seconds, validate

HERE = DEPLOY / "kubernetes"


def of(objects, kind):
    return [o for o in objects if o["kind"] == kind]


class Kubernetes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        directories = sorted(file.parent for file in HERE.rglob("kustomization.yaml"))
        cls.built = {str(d.relative_to(HERE)): kustomize(d) for d in directories}

    def each(self, test):
        for directory, objects in self.built.items():
            with self.subTest(directory):
                test(directory, objects)

    def test_every_directory_builds_and_every_object_is_valid(self):
        self.assertGreaterEqual(len(self.built), 11)
        self.each(lambda _, objects: validate(objects))

    def test_examples_outside_of_kustomize_are_valid(self):
        validate([yaml.safe_load((HERE / "base/secret.example.yaml").read_text())])
        values = yaml.safe_load((HERE / "gateway-api/istio/istiod-values.yaml").read_text())
        validate([{"apiVersion": "mesh.istio.io/v1alpha1", "kind": "MeshConfig", "spec": values["meshConfig"]}])
        providers = {p["name"] for p in values["meshConfig"]["extensionProviders"]}
        policy = named(self.built["gateway-api/istio"], "AuthorizationPolicy")
        self.assertIn(policy["spec"]["provider"]["name"], providers)

    def test_pods_are_restricted_and_given_longer_than_a_drain(self):
        def test(_, objects):
            for deployment in of(objects, "Deployment"):
                pod = deployment["spec"]["template"]["spec"]
                restricted(pod)
                server = tomllib.loads(named(objects, "ConfigMap")["data"]["doorward.toml"])["server"]
                # It counts from the beginning, the delay with it.
                drain = seconds(server.get("drain_timeout", "30s"))
                self.assertGreater(pod["terminationGracePeriodSeconds"], drain)
                self.assertLess(seconds(server["drain_delay"]), drain)
                for container in pod["containers"]:
                    # An application beside Doorward is there until that has finished.
                    stop = container.get("lifecycle", {}).get("preStop")
                    if stop:
                        self.assertGreater(stop["sleep"]["seconds"], drain)
                        self.assertGreater(pod["terminationGracePeriodSeconds"], stop["sleep"]["seconds"])

        self.each(test)

    def test_pods_listen_on_every_address_at_the_ports_that_they_name(self):
        def test(_, objects):
            for deployment in of(objects, "Deployment"):
                toml = tomllib.loads(named(objects, "ConfigMap")["data"]["doorward.toml"])
                listen = {
                    "http": toml["server"].get("listen", ["0.0.0.0:4180"]),
                    "admin": [toml["admin"]["listen"]],
                    "grpc": [toml.get("forward_auth", {}).get("grpc_listen")],
                }
                [ports] = [c["ports"] for c in deployment["spec"]["template"]["spec"]["containers"] if c["name"] == "doorward"]
                for port in ports:
                    self.assertEqual(listen[port["name"]], [f"0.0.0.0:{port['containerPort']}"])

        self.each(test)

    def test_documents_say_the_times_that_the_files_have(self):
        grace = named(self.built["base"], "Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        stop = yaml.safe_load((DEPLOY / "docker/compose.yaml").read_text())["services"]["doorward"]["stop_grace_period"]
        [unit] = re.findall(r"^TimeoutStopSec=(\d+)$", (DEPLOY / "systemd/doorward.service").read_text(), re.MULTILINE)
        said = {
            r"terminationGracePeriodSeconds: (\d+)": grace,
            r"(?:stop_grace_period: |--stop-timeout )(\d+)": seconds(stop),
            r"TimeoutStopSec=(\d+)": int(unit),
        }
        for document in [*(ROOT / "docs").glob("*.md"), *DEPLOY.rglob("*.md"), DEPLOY / "docker/Dockerfile"]:
            for pattern, expected in said.items():
                for found in re.findall(pattern, document.read_text()):
                    self.assertEqual(int(found), expected, f"{document}: {pattern}")

    def test_selectors_find_the_pods_and_ports_have_names_that_exist(self):
        def test(_, objects):
            for deployment in of(objects, "Deployment"):
                template = deployment["spec"]["template"]
                labels = template["metadata"]["labels"].items()
                ports = {p["name"] for c in template["spec"]["containers"] for p in c.get("ports", [])}
                for service in of(objects, "Service"):
                    self.assertLessEqual(service["spec"]["selector"].items(), labels)
                    self.assertLessEqual({p["targetPort"] for p in service["spec"]["ports"]}, ports)
                place = deployment["metadata"]["namespace"]
                for policy in (p for p in of(objects, "NetworkPolicy") if p["metadata"]["namespace"] == place):
                    self.assertLessEqual(policy["spec"]["podSelector"]["matchLabels"].items(), labels)
                    self.assertLessEqual({p["port"] for r in policy["spec"]["ingress"] for p in r["ports"]}, ports)

        self.each(test)

    def test_no_service_shows_the_admin_listener_but_the_one_for_prometheus(self):
        def test(directory, objects):
            for service in of(objects, "Service"):
                if any(p["targetPort"] in ("admin", 9180) for p in service["spec"]["ports"]):
                    self.assertEqual((directory, service["spec"]["clusterIP"]), ("monitoring", "None"))

        self.each(test)

    def test_middlewares_are_those_of_the_recipe_for_traefik(self):
        recipe = yaml.safe_load((DEPLOY / "traefik/dynamic.yml").read_text())["http"]["middlewares"]
        for middleware in of(self.built["ingress-sso/traefik"], "Middleware"):
            expected = recipe[middleware["metadata"]["name"]]
            if "forwardAuth" in expected:
                address = "http://doorward.doorward.svc.cluster.local:4180/oauth2/forward"
                expected = {"forwardAuth": {**expected["forwardAuth"], "address": address}}
            self.assertEqual(middleware["spec"], expected, "copy it from deploy/traefik/dynamic.yml")

    def test_nobody_outside_reaches_the_endpoints_that_answer_proxies(self):
        asked = {"/oauth2/auth", "/oauth2/forward", "/oauth2/ext_authz"}
        route = named(self.built["gateway-api/routes"], "HTTPRoute", "doorward")
        nowhere = [m["path"]["value"] for r in route["spec"]["rules"] if "backendRefs" not in r for m in r["matches"]]
        self.assertEqual(set(nowhere), asked)
        closed = named(self.built["ingress-sso/ingress-nginx"], "Ingress", "doorward-questions")
        for rule in closed["spec"]["rules"]:
            self.assertEqual({path["path"] for path in rule["http"]["paths"]}, asked)
        match = named(self.built["ingress-sso/traefik"], "IngressRoute", "doorward")["spec"]["routes"][0]["match"]
        self.assertIn("!PathRegexp(`^/oauth2/(auth|forward|ext_authz)(/|$)`)", match)

    def test_pods_beside_the_gateway_reach_neither_doorward_nor_the_application(self):
        built = {d: o for d, o in self.built.items() if re.match("ingress-sso/|gateway-api/(envoy|istio)", d)}
        built.pop("ingress-sso/doorward")
        self.assertEqual(len(built), 5)
        for directory, objects in built.items():
            with self.subTest(directory):
                policies = {p["metadata"]["namespace"]: p["spec"] for p in of(objects, "NetworkPolicy")}
                doorward, application = policies.pop("doorward"), policies.popitem()
                self.assertEqual(policies, {})
                self.assertIn(application[0], ("app", "wiki"))
                http = [rule for rule in doorward["ingress"] if {"port": "http"} in rule["ports"]]
                self.assertEqual([rule["from"] for rule in http], [rule["from"] for rule in application[1]["ingress"]])

    def test_istio_asks_about_every_host_that_does_not_lead_to_doorward(self):
        objects = self.built["gateway-api/istio"]
        operations = [rule["to"][0]["operation"] for rule in named(objects, "AuthorizationPolicy")["spec"]["rules"]]
        hosts = named(objects, "HTTPRoute", "doorward")["spec"]["hostnames"]
        self.assertEqual(operations, [{"notPaths": ["/oauth2", "/oauth2/*"]}, {"notHosts": hosts}])

    def test_services_of_doorward_that_other_objects_name_exist(self):
        def test(_, objects):
            if not of(objects, "Deployment"):
                return
            served = {service["metadata"]["name"] for service in of(objects, "Service")}
            asked = set(re.findall(r"([-a-z]+)\.doorward\.svc\.cluster\.local", yaml.safe_dump_all(objects)))
            self.assertLessEqual(asked, served)
            for grant in of(objects, "ReferenceGrant"):
                self.assertIn(grant["spec"]["to"][0]["name"], served)

        self.each(test)

    def test_every_configuration_passes_doorward_check(self):
        for file in sorted(HERE.rglob("doorward.toml")):
            with self.subTest(str(file.relative_to(HERE))):
                self.assertIn("the configuration is valid", doorward_check(file.read_text()))
