"""Prometheus and Grafana as configured: they look at services that exist, and at metrics that are served."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from fedcore.server.observe.metrics import RunMetrics

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "docker" / "grafana"
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
DASHBOARD = json.loads((GRAFANA / "dashboards" / "fedcore.json").read_text())
PROMETHEUS = yaml.safe_load((ROOT / "docker" / "prometheus" / "prometheus.yml").read_text())


def served() -> dict[str, set[str]]:
    """Label values by sample name of a run that has not begun."""
    samples: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(generate_latest(RunMetrics().registry).decode()):
        for sample in family.samples:
            samples.setdefault(sample.name, set()).update(sample.labels.values(), sample.labels)
    return samples


def expressions() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


def test_every_metric_of_the_dashboard_is_served_and_every_one_served_is_shown() -> None:
    samples = served()
    asked = {name for each in expressions() for name in re.findall(r"fedcore_\w+", each)}
    assert asked <= set(samples), asked - set(samples)
    families = {re.sub(r"_(total|bucket|sum|count|created)$", "", name) for name in samples}
    assert {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in asked} == families


def test_labels_and_values_are_the_metrics_own() -> None:
    samples = served()
    scraped = {"role", "instance", "coordinator", "le"}  # given at the scrape, or by a histogram
    for each in expressions():
        for name, selector in re.findall(r"(fedcore_\w+)\{([^}]*)\}", each):
            for label, values in re.findall(r'(\w+)[=!~]+"([^"]*)"', selector):
                assert {label, *values.split("|")} <= samples[name] | scraped, each
        grouped = {word for group in re.findall(r"by \(([^)]*)\)", each) for word in re.split(r",\s*", group)}
        names = re.findall(r"fedcore_\w+", each)
        assert grouped <= scraped.union(*(samples[name] for name in names)), each


def test_panels_lie_side_by_side() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_prometheus_looks_where_metrics_are_served() -> None:
    (job,) = PROMETHEUS["scrape_configs"]
    targets = {target for group in job["static_configs"] for target in group["targets"]}
    offered = {f"{name}:9464" for name, each in SERVICES.items() if "--metrics=0.0.0.0:9464" in each.get("command", ())}
    assert targets == offered == {"coordinator:9464", "edge-a:9464", "edge-b:9464"}


def test_grafana_finds_its_source_and_its_dashboard() -> None:
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/fedcore.yml").read_text())["providers"]
    used = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]}
    used |= {target["datasource"]["uid"] for panel in DASHBOARD["panels"] for target in panel["targets"]}
    assert used == {source["uid"]} and source["url"] == "http://prometheus:9090"
    mounted = [text.split(":")[1] for text in SERVICES["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounted
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/fedcore.json"
    for name in ("prometheus", "grafana"):
        assert SERVICES[name]["profiles"] == ["monitoring"]
        assert all(port.startswith("127.0.0.1:") for port in SERVICES[name]["ports"])
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"]), "pinned"
