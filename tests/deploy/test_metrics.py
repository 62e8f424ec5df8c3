"""Alerts and dashboard: every metric and label that a query names is in the /metrics of a gateway that has served."""

import http.client
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import unittest

import promql_parser
import yaml

from support import DEPLOY, doorward, run

DASHBOARD = json.loads((DEPLOY / "grafana/doorward.json").read_text())
ALERTS = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())
# Added by whoever scrapes.
SCRAPED = {"job", "instance"}
# Counted only when something has happened that is not made to happen here: the labels, from the code that counts.
SELDOM = {
    "doorward_logins_total": {"provider", "outcome"},
    "doorward_proxy_protocol_total": {"outcome"},
    "doorward_upstream_retries_total": {"route"},
}


def selectors(node):
    """Every vector selector of a parsed query."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
        pass
    for name in ("expr", "lhs", "rhs", "param", "vector_selector", "vs"):
        inner = getattr(node, name, None)
        if inner is not None and not isinstance(inner, str):
            yield from selectors(inner)
    for argument in getattr(node, "args", None) or []:
        yield from selectors(argument)
