"""The `s3pot` command: every job as a verb."""

import typer

from ray_jobs import (
    data,
    encode,
    evaluate,
    models,
    overfit,
    predict,
    report,
    rerun,
    screen,
    serve,
    store,
    sweep,
    sync,
    train,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="S3POT finds what covers a face, without occlusion labels. Each verb takes [FILE.yaml] [key=value ...] and "
    "`s3pot VERB --help` lists its keys; `data`, `models` and `store` have verbs of their own, `sync` and `rerun` take "
    "a folder.",
)
data.app.command("screen")(screen.command)
app.add_typer(data.app, name="data")
app.command("encode")(encode.command)
app.command("train")(train.command)
app.command("overfit")(overfit.command)
app.command("sweep")(sweep.command)
app.command("rerun")(rerun.command)
app.command("evaluate")(evaluate.command)
app.command("predict")(predict.command)
app.command("report")(report.command)
app.command("sync")(sync.command)
app.command("serve")(serve.command)
app.add_typer(models.app, name="models")
app.add_typer(store.app, name="store")


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
