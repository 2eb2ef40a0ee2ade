"""The site for a Grafana: what is provisioned, and what its README says."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import yaml

from grafana.site import kept_password
from tests.grafana_asks import dashboards
from tests.places import ROOT

BOARDS = dashboards()


def test_provisioning_names_what_the_boards_ask_for() -> None:
    folder = ROOT / "grafana" / "provisioning"
    sources = yaml.safe_load((folder / "datasources" / "bbq.yaml").read_text())["datasources"]
    provisioned = {(source["uid"], source["name"], source["type"]) for source in sources}
    defaults = {
        (variable["current"]["value"], variable["current"]["text"], variable["query"])
        for board in BOARDS.values()
        for variable in board["templating"]["list"]
        if variable["type"] == "datasource"
    }
    assert defaults == provisioned
    for name in ("plugins", "alerting", "notifiers"):  # Grafana logs an error for a folder that is missing
        assert (
            f"grafana/provisioning/{name}/README" in (ROOT / "setup.cfg").read_text()
            and (folder / name / "README").exists()
        )
        assert not [path for path in (folder / name).iterdir() if path.suffix in (".yaml", ".yml", ".json")]
    (provider,) = yaml.safe_load((folder / "dashboards" / "bbq.yaml").read_text())["providers"]
    assert provider["folder"] == "BBQ" and provider["options"] == {"path": "$BBQ_DASHBOARDS"}
    named = set(re.findall(r"\$(\w+)", "".join(path.read_text() for path in folder.rglob("*.yaml"))))
    source = (ROOT / "grafana" / "site.py").read_text()
    assert all(f'"{name}"' in source for name in named), named


def test_a_site_keeps_its_password(tmp_path: Path) -> None:
    path = tmp_path / "grafana.env"
    made = kept_password(path)
    assert made != kept_password(path) and len(made) > 16
    path.write_text(f"BBQ_POSTGRES_USER=grafana\nBBQ_POSTGRES_PASSWORD={shlex.quote(made)}\n")
    assert kept_password(path) == made
    for odd in ("", "'two words'", '"\'; DROP TABLE jobs;--"', "short"):
        path.write_text(f"BBQ_POSTGRES_PASSWORD={odd}\n")
        assert re.fullmatch(r"[A-Za-z0-9_-]{16,}", kept_password(path)) and kept_password(path) != odd


def test_sql_and_shell_are_not_in_one_block() -> None:
    blocks = re.split(r"\n(?! {4}|\n)", (ROOT / "grafana" / "README.md").read_text())
    assert not [
        block for block in blocks if "CREATE ROLE" in block and re.search(r"^ +bbq-history", block, re.MULTILINE)
    ]


def test_python_and_command_line_say_the_same() -> None:
    done = subprocess.run([sys.executable, "-m", "grafana.build", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
