"""The rule that the Master and its peers all carry: one series of each Tenant above a limit for a minute.

The Master judges each sample as it arrives, in the transaction that stores it. Prometheus and vmalert look every ten seconds, Zabbix
at each value.
"""

import json
import time
from pathlib import Path
from typing import Final

from benchmarks.load.frames import FrameSource
from tenantry.detection.levels import Level
from tenantry.master.config import load
from tenantry.master.domain.access import MAIN_OWNER
from tenantry.master.domain.rules import Action, ActionKind, Condition, LabelCondition, Limit, RuleDraft
from tenantry.master.operations.actors import SYSTEM
from tenantry.master.operations.ruling import create_rule
from tenantry.master.sql.database import Database

NAME: Final = "busy"
LIMIT: Final = 0.95
FOR_S: Final = 60
INTERVAL_S: Final = 10
PLACE: Final = 0
"""Of the series that is judged, in the layout."""


def keep_rule(data: Path, source: FrameSource) -> None:
    """Put the rule into the store of a Master that does not run."""
    series = source.layout.series[PLACE]
    condition = Condition(
        series.name,
        {Level.MAJOR: Limit(">", LIMIT)},
        tuple(LabelCondition(name, (value,)) for name, value in series.labels),
        for_ms=FOR_S * 1000,
    )
    raising = Action(ActionKind.RAISE_ALERT, frozenset({Level.MAJOR}))
    draft = RuleDraft(NAME, condition, (raising,), active=True)
    with Database.open(load({"data_dir": str(data)}).dsn) as database, database.write() as transaction:
        create_rule(transaction, SYSTEM, draft, owner=MAIN_OWNER, uid="benchmark", now_ms=time.time_ns() // 1_000_000)


def alerting_rules(source: FrameSource) -> str:
    """The rule as Prometheus and vmalert read it; JSON is YAML."""
    series = source.layout.series[PLACE]
    labels = ",".join(f'{name}="{value}"' for name, value in series.labels)
    rule = {"alert": NAME, "expr": f"{metric_name(series.name)}{{{labels}}} > {LIMIT}", "for": f"{FOR_S}s"}
    return json.dumps({"groups": [{"name": NAME, "interval": f"{INTERVAL_S}s", "rules": [rule]}]})


def metric_name(name: str) -> str:
    """The name of a series as Prometheus allows it."""
    return name.replace(".", "_")
