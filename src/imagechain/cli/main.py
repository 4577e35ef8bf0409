"""The entry point: the list of commands, and what each kind of failure means for the exit code.

Commands are named here and imported only when they run, so that `--help` and completion stay quick.
"""

import gc
import sys
import traceback

from cyclopts import App, CycloptsError

from imagechain._version import __version__
from imagechain.cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, exit_code_of

#: So many objects are made before those are looked for that nothing needs any more, but themselves.
_NEW_OBJECTS_MAX = 20_000

app = App(
    name="imagechain",
    help="Keep chains of container images built on the newest version of what they are built from.",
    help_epilogue="Every command takes --debug, which shows the traceback of an error.",
    version=__version__,
    help_format="plaintext",
    result_action="return_value",
)
app.command("imagechain.cli.up:up", help="Build every stale image of a local chain, in order, in parallel.")
app.command("imagechain.cli.scan:scan", help="Discover the images of a folder and what they are built from.")
app.command("imagechain.cli.ask:status", help="Show what is fresh, stale, building or blocked.")
app.command("imagechain.cli.ask:explain", help="Explain why an image is in the state that it is in.")
app.command("imagechain.cli.ask:plan", help="Show what would be built, in which order, and why.")
app.command("imagechain.cli.serve:serve", help="Keep the chain of GitLab groups built: the service.")
app.command("imagechain.cli.serve:sync", help="Read the groups, install and repair their webhooks.")
app.command("imagechain.cli.backup:backup", help="Copy the service's database, also while it runs.")
app.command("imagechain.cli.command:rebuild", help="Tell the service to build a project.")
app.command("imagechain.cli.command:retry", help="Tell the service to try a failed project again.")
app.command("imagechain.cli.command:pause", help="Tell the service to start no builds of a project.")
app.command("imagechain.cli.command:resume", help="Tell the service that a pause is over.")
app.command("imagechain.cli.vet:vet", help="Tell whether images of others are continuously built.")
app.command(
    "imagechain.cli.hosts:app", name="hosts", help="Keep the containers of this host on the newest image."
)
app.command("imagechain.cli.mirror:app", name="mirror", help="Keep tags of other registries mirrored.")
app.command("imagechain.cli.doctor:doctor", help="Check this machine, and say how to mend each finding.")
app.command("imagechain.cli.demo:demo", help="Show the service at work here: simulated GitLab, real builds.")
image = App(name="image", help="Build, promote, assemble, order and compare single images.")
image.command("imagechain.cli.image_tag:tag", help="Give a tested image its further names.")
image.command("imagechain.cli.image_manifest:manifest", help="Make one image of its architectures' parts.")
image.command("imagechain.cli.image_build:build", help="Build one image, and push it where CI puts it.")
image.command("imagechain.cli.image_diff:diff", help="Name the files in which two images differ.")
image.command("imagechain.cli.image_pipeline:image_pipeline", name="pipeline", help="Write a child pipeline.")
app.command(image)
app.command(
    "imagechain.cli.completion:install_completion",
    name="--install-completion",
    help="Write the completion of your shell to a file.",
)


def main() -> None:
    """Run the command line and leave with its exit code."""
    # What is loaded stays: looking through it every 700 objects would be a twentieth of a short command.
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS_MAX)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; every error is told in a sentence on standard error."""
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        code = app(arguments, exit_on_error=False, print_error=True)
    except CycloptsError:
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has seen enough. Python would complain again when it flushes at the end.
        sys.stdout = None
        return EXIT_FAILED
    except Exception as error:  # noqa: BLE001 - the last resort: a person gets a sentence, not a traceback
        if debug:
            traceback.print_exc()
        code = exit_code_of(error)
        if code is None:
            print_error(
                f"a bug in imagechain: {type(error).__name__}: {error}. Run it with --debug and report it"
            )
            return EXIT_FAILED
        print_error(str(error))
        return code
    return code if isinstance(code, int) else 0


def print_error(message: str) -> None:
    """Print one error to standard error, with the name of the program before it."""
    sys.stderr.write(f"imagechain: {message}\n")
