"""Alerts and dashboard: every metric and label that a query names is in the /metrics of a gateway that has served."""

import json
import re
import unittest

import promql_parser
import yaml

from served import Served
from support import DEPLOY, doorward, kustomize, named

DASHBOARD = json.loads((DEPLOY / "grafana/doorward.json").read_text())
ALERTS = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())
# Added by whoever scrapes.
SCRAPED = {"job", "instance"}
# Of Prometheus itself.
FOREIGN = {"up": SCRAPED}

def selectors(node):
    """Every selector of a parsed query, as (metric, labels)."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node.name, {matcher.name for matcher in node.matchers.matchers}
    elif isinstance(node, promql_parser.MatrixSelector):
        yield from selectors(node.vector_selector)
    elif isinstance(node, promql_parser.BinaryExpr):
        yield from selectors(node.lhs)
        yield from selectors(node.rhs)
    elif isinstance(node, promql_parser.Call):
        for argument in node.args:
            yield from selectors(argument)
    elif isinstance(node, (promql_parser.ParenExpr, promql_parser.SubqueryExpr, promql_parser.UnaryExpr)):
        yield from selectors(node.expr)
    elif isinstance(node, promql_parser.AggregateExpr):
        # What it groups by has to be a label of everything inside.
        by = set(node.modifier.labels) if node.modifier else set()
        for metric, labels in selectors(node.expr):
            yield metric, labels | by
    elif not isinstance(node, (promql_parser.NumberLiteral, promql_parser.StringLiteral)):
        raise AssertionError(f"{type(node).__name__} is not known here")


def queries():
    """Where each stands, and what Prometheus gets of it."""
    for group in ALERTS["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"]).groups()
            yield variable["name"], f"sum by ({label}) ({metric})"


def exposed(text):
    """Of an exposition: each metric and the names of its labels. A family without samples has none yet."""
    metrics = {}
    for line in text.splitlines():
        if sample := re.match(r"(\w+)(?:\{(.*)\})? ", line):
            labels = re.findall(r'(\w+)="(?:[^"\\]|\\.)*"', sample[2] or "")
            metrics.setdefault(sample[1], set()).update(labels)
    return metrics


class Metrics(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        doorward()
        with Served() as gateway:
            cls.metrics = {**FOREIGN, **exposed(gateway.metrics())}

    def test_every_query_asks_for_metrics_and_labels_that_are_there(self):
        for name, query in queries():
            with self.subTest(name):
                plain = query.replace("$__rate_interval", "5m").replace("$job", ".*")
                asked = list(selectors(promql_parser.parse(plain)))
                self.assertTrue(asked)
                for metric, labels in asked:
                    self.assertTrue(metric in self.metrics, metric)
                    self.assertLessEqual(labels - SCRAPED, self.metrics[metric], metric)

    def test_every_metric_is_shown_or_watched(self):
        asked = {metric for _, query in queries() for metric in re.findall(r"\bdoorward_\w+", query)}
        families = {re.sub(r"_(bucket|sum|count)$", "", metric) for metric in self.metrics if metric not in FOREIGN}
        shown = {re.sub(r"_(bucket|sum|count)$", "", metric) for metric in asked}
        self.assertEqual(families - shown, set())


class Files(unittest.TestCase):
    def test_every_alert_says_how_bad_it_is_and_what_to_do(self):
        for group in ALERTS["groups"]:
            for rule in group["rules"]:
                with self.subTest(rule["alert"]):
                    self.assertIn(rule["labels"]["severity"], ("critical", "warning"))
                    self.assertEqual(set(rule["annotations"]), {"summary", "description", "action"})

    def test_the_rule_for_the_operator_has_the_same_alerts(self):
        rule = named(kustomize(DEPLOY / "kubernetes/monitoring"), "PrometheusRule")
        self.assertEqual(rule["spec"], ALERTS)

    def test_panels_are_numbered_once_and_do_not_overlap(self):
        panels = DASHBOARD["panels"]
        self.assertEqual(len({panel["id"] for panel in panels}), len(panels))
        taken = {}
        for panel in panels:
            at = panel["gridPos"]
            self.assertLessEqual(at["x"] + at["w"], 24)
            for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
                self.assertNotIn(cell, taken, f"{panel['title']} lies on {taken.get(cell)}")
                taken[cell] = panel["title"]
