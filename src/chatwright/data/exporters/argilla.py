"""Argilla records as its Python SDK (2.x) reads them with `Dataset.records.from_json`.

Fields `prompt` (a chat field) and `response-1` ..; questions `ranking` (the fields' names, best first), `rating-1` ..
(1 to 7) and `flags-1` .. per answer; of a demonstration, the text question `response`. The SDK's rankings have neither ties
nor gaps: an order with either stands in the metadata only, and Argilla shows the record as not ranked. The metadata field
`chatwright` holds the rest of our row as JSON, so that what is exported and read back is the same.
"""

from __future__ import annotations

import json
import uuid

from chatwright.data.exporters.common import Record, Row, Written, left_out, problem, turns
from chatwright.data.importers.argilla import METADATA, user_id_of
from chatwright.records import Demonstration, Ranking

NOT_SHOWN = "a ranking with ties or unranked answers: kept in the metadata, Argilla itself shows none"


def argilla(record: Record) -> Written:
    """`{"id", "fields", "metadata", "suggestions", "responses", "vectors"}`."""
    if (reason := problem(record.messages)) is not None:
        return left_out(reason)
    written = Written()
    rest = {name: value for name, value in record.to_dict().items() if name not in ("messages", "completions")}
    labeller = record.labeller if isinstance(record, Ranking) else record.meta.get("labeller")
    user = user_id_of(labeller if isinstance(labeller, str) else "")
    asked = record.messages[:-1] if isinstance(record, Demonstration) else record.messages
    fields: Row = {"prompt": turns(asked)}
    responses: dict[str, list[Row]] = {}
    if isinstance(record, Demonstration):
        responses["response"] = [{"value": record.answer, "user_id": user}]
    elif isinstance(record, Ranking):
        fields |= {f"response-{n}": text for n, text in enumerate(record.completions, 1)}
        responses = _answers(record, user, written)
    metadata: Row = {METADATA: json.dumps(rest, ensure_ascii=False)}
    if isinstance(labeller, str):
        metadata["labeller"] = labeller
    if isinstance(record, Ranking) and record.labeller_kind is not None:
        metadata["labeller_kind"] = record.labeller_kind
    # The same record has the same id: exporting twice does not double it in Argilla.
    name = str(uuid.uuid5(uuid.NAMESPACE_OID, json.dumps([fields, rest, responses], ensure_ascii=True, sort_keys=True)))
    written.rows.append({
        "id": name, "fields": fields, "metadata": metadata, "suggestions": {}, "responses": responses, "vectors": {},
    })  # fmt: skip
    return written


def _answers(record: Ranking, user: str, written: Written) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    levels = record.order.levels()
    if len(levels) == record.order.k:
        found["ranking"] = [{"value": [f"response-{level[0] + 1}" for level in levels], "user_id": user}]
    else:
        written.lost.append(NOT_SHOWN)
    for n, rating in enumerate(record.likert or (), 1):
        if rating is not None:
            found[f"rating-{n}"] = [{"value": rating, "user_id": user}]
    for n, flags in enumerate(record.flags or (), 1):
        if flags:
            found[f"flags-{n}"] = [{"value": list(flags), "user_id": user}]
    return found
