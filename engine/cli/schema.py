"""`npc-edge schema`: the JSON Schema of a bundle's manifest or of result.json."""

from __future__ import annotations

from typing import Annotated, Literal

import typer


def schema(
    which: Annotated[Literal["manifest", "result"], typer.Argument(help="The document it describes.")],
) -> None:
    """Print a JSON Schema (draft 2020-12)."""
    import json

    from pydantic import BaseModel

    model: type[BaseModel]
    if which == "manifest":
        from npc_edge.engine.model.manifest import Manifest

        model = Manifest
    else:
        from npc_edge.engine.output.schema import ResultDocument

        model = ResultDocument
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
