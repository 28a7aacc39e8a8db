"""`python -m openchat_cli` is `openchat`."""

from openchat_cli.cli.main import run

if __name__ == "__main__":
    run()
