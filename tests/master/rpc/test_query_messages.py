"""Rows of results on the wire."""

import json

from tenantry.master.rpc.query_messages import AnswerEncoder


def test_a_map_of_texts_is_sent_as_json() -> None:
    """As programs and the command line read it; what is absent is named beside."""
    encoder = AnswerEncoder()
    encoder.begin({"result": 0, "name": "", "columns": [["labels", "texts"], ["n", "number"]]})
    labels = {"mount": "/home", "quote\"'": "ü"}
    rows = encoder.rows({"rows": 0, "count": 2, "columns": [[labels, None], [1, None]]})
    assert [json.loads(one) for one in rows.columns[0].texts[:1]] == [labels]
    assert (list(rows.columns[0].absent), list(rows.columns[1].numbers), list(rows.columns[1].absent)) == (
        [1],
        [1, 0],
        [1],
    )
