"""A gateway that has served: somebody has signed in, upstreams have failed, a balancer has connected."""

import http.cookiejar
import re
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from support import certificate, doorward, free_port, run

CONFIG = """
[server]
listen = ["127.0.0.1:{port}"]
public_url = "https://127.0.0.1:{port}"
trusted_proxies = ["127.0.0.2"]
proxy_protocol = true
[server.tls]
cert = "{directory}/tls.crt"
key = "{directory}/tls.key"
[admin]
listen = "127.0.0.1:{admin}"
[provider.demo]
issuer = "{issuer}"
client_id = "demo"
client_secret = "demo-secret"
[session]
keys = ["{key}"]
[[route]]
name = "app"
path = "/"
upstream = "{application}"
access = "authenticated"
[[route]]
name = "away"
path = "/away"
upstream = ["http://127.0.0.1:{away}", "http://127.0.0.1:{away_too}"]
access = "public"
"""


class Served:
    """Runs while it is entered, beside the provider and the application of `doorward demo`."""

    def __enter__(self):
        self.programs, self.directory = [], tempfile.TemporaryDirectory()
        try:
            self.begin(Path(self.directory.name))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for program in self.programs:
            program.kill()
            program.communicate()
        self.directory.cleanup()

    def metrics(self):
        return self.get(f"{self.admin}/metrics")

    def begin(self, directory):
        demo = self.start("demo", "--port", "0")
        said = ""
        while "configuration" not in said and (line := demo.stdout.readline()):
            said += line
        printed = dict(re.findall(r"(provider|application) +(http://[^\s/]+)", said))
        certificate(directory)
        self.port, admin = free_port(), free_port()
        self.admin, self.base = f"http://127.0.0.1:{admin}", f"https://127.0.0.1:{self.port}"
        file = directory / "doorward.toml"
        file.write_text(CONFIG.format(
            port=self.port, admin=admin, directory=directory, key=run([doorward(), "key"]).strip(),
            issuer=printed["provider"], application=printed["application"], away=free_port(), away_too=free_port(),
        ))
        self.start("serve", "--config", file)
        # Nobody has signed the certificate.
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        self.browser = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()), urllib.request.HTTPSHandler(context=trusting)
        )
        eventually("readiness", lambda: self.get(f"{self.admin}/readyz") == "ready\n")
        self.sign_in()
        self.fail()
        with socket.create_connection(("127.0.0.1", self.port), 30, ("127.0.0.2", 0)) as balancer:
            balancer.sendall(b"PROXY UNKNOWN\r\n")
            eventually("the balancer's connection", lambda: "doorward_proxy_protocol_total{" in self.metrics())

    def start(self, *arguments):
        command = [doorward(), *arguments]
        program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.programs.append(program)
        return program

    def get(self, url, form=None):
        data = urllib.parse.urlencode(form).encode() if form else None
        with self.browser.open(urllib.request.Request(url, data, {"Accept": "text/html"}), timeout=30) as answer:
            self.at = answer.url
            return answer.read().decode()

    def sign_in(self):
        page = self.get(f"{self.base}/")
        request = re.search(r'name="request" value="([^"]+)"', page)[1]
        self.get(urllib.parse.urljoin(self.at, "/sign_in"), {"request": request, "username": "alice", "password": "alice"})
        assert self.at == f"{self.base}/", f"the sign-in ended at {self.at}"
        self.get(f"{self.base}/")

    def fail(self):
        try:
            self.get(f"{self.base}/away")
        except urllib.error.HTTPError as error:
            assert error.code == 502, error
            error.close()


def eventually(what, condition):
    for _ in range(600):
        try:
            if condition():
                return
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(0.05)
    raise AssertionError(f"in vain: {what}")
