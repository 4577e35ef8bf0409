"""The services of a job: started beside it, known to it by names, and waited for.

A service that dies or never answers is a warning with its log, and the job goes on, as with the docker
executor: many jobs work without what they asked for.
"""

import re
import time
from collections.abc import Sequence
from typing import NamedTuple

from imagechain.executor import podman
from imagechain.executor.containers import Runs
from imagechain.executor.job import Image, Job, expand
from imagechain.executor.log import say
from imagechain.executor.processes import Process
from imagechain.executor.pull import LocalImage
from imagechain.executor.ready import started
from imagechain.executor.service_logs import read_end
from imagechain.executor.state import name

#: A variable of a service by which it names the port to wait for.
PORT_VARIABLE = "HEALTHCHECK_TCP_PORT"
_PORTS_MAX = 20
_POLL_SECONDS = 0.05
_HEALTHCHECK_SECONDS = 1.0
_LISTEN = "0A"
_ALIAS = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9_])?")


class Service(NamedTuple):
    """A service that is about to run."""

    number: int
    asked: Image
    image: LocalImage
    aliases: tuple[str, ...]


def aliases(services: Sequence[Image]) -> list[tuple[str, ...]]:
    """Return the names by which each service is found; the first service that has a name keeps it."""
    taken: set[str] = {"build", "helper"}
    result = []
    for service in services:
        place = re.sub(r"(@[^@]*)?$", "", service.name).rpartition("/")
        path = place[0] + place[1] + place[2].partition(":")[0]
        path = re.sub(r":[0-9]+/", "/", path)
        usual = (path.replace("/", "__"), path.replace("/", "-"))
        names: list[str] = []
        for alias in (*usual, *service.aliases):
            if _ALIAS.fullmatch(alias) is None:
                say(f"warning: the service {service.name} cannot be called {alias!r}: it is no host name")
            elif alias not in names and alias in taken:
                say(f"warning: the service {service.name} is not called {alias!r}: another one already is")
            elif alias not in names:
                names.append(alias)
        taken.update(names)
        result.append(tuple(names))
    return result


def variables(service: Image, job: Job) -> dict[str, str]:
    """Return the environment of a service: what is public of the job's, then its own; never a secret."""
    values = job.public_variables
    own = {
        variable.key: variable.value if variable.raw else expand(variable.value, values)
        for variable in service.variables
    }
    return values | own


def start(services: Sequence[Service], job: Job, runs: Runs) -> list[Service]:
    """Start the containers of all services; warn about those whose image cannot run, and return the others.

    Raises:
        SystemFailureError: podman failed.
    """
    calls = []
    for service in services:
        arguments = runs.service(
            service.number,
            service.image.id,
            aliases=service.aliases,
            entrypoint=service.asked.entrypoint,
            command=service.asked.command,
            user=expand(service.asked.user, job.public_variables),
            variables=variables(service.asked, job),
        )
        calls.append((service, arguments, podman.Call(arguments)))
    running = []
    for service, arguments, call in calls:
        result = call.result()
        if result.code == 0:
            running.append(service)
        elif podman.blames_image(result.error):
            say(f"warning: the service {service.asked.name} cannot be started; the job goes on. Podman said:")
            say(result.error)
        else:
            raise podman.PodmanError(arguments, result)
    return running


def wait(services: Sequence[Service], job: Job, folder: str, timeout_seconds: float) -> None:
    """Wait until every service answers; warn about those that do not."""
    deadline = time.monotonic() + timeout_seconds
    for service in services:
        trouble = _wait_for(service, job, folder, deadline)
        if trouble:
            say(f"warning: the service {service.asked.name} {trouble}; the job goes on. Its log:")
            say(read_end(folder, service.number) or "(nothing)")


def _wait_for(service: Service, job: Job, folder: str, deadline: float) -> str:
    """Wait for one service; return what is wrong with it, if something is."""
    process = started(folder, f"service-{service.number}")
    port = variables(service.asked, job).get(PORT_VARIABLE, "")
    ports = (int(port),) if re.fullmatch(r"[0-9]{1,5}", port) else service.image.tcp_ports[:_PORTS_MAX]
    check = _healthcheck(service)
    if not check and not ports:
        return (
            "exposes no TCP port and has no health check to wait for"
            f" (its variable {PORT_VARIABLE} can name a port)"
        )
    while True:
        if process is None or not process.lives:
            return "has ended"
        if _healthy(name(job.key, f"service-{service.number}"), check) if check else listens(process, ports):
            return ""
        if time.monotonic() >= deadline:
            return (
                "fails its health check"
                if check
                else f"does not listen on port {' or '.join(map(str, ports))}"
            )
        time.sleep(_HEALTHCHECK_SECONDS if check else _POLL_SECONDS)


def listens(process: Process, ports: Sequence[int]) -> bool:
    """Tell whether anybody in the network of a process listens on one of the ports, for more than itself.

    The kernel's own table is read rather than a connection made: without root there is no way to connect from
    outside, and some servers complain about connections that say nothing.
    """
    for table, loopback in (("tcp", "0100007F"), ("tcp6", "00000000000000000000000001000000")):
        try:
            with open(f"/proc/{process.pid}/net/{table}") as file:
                lines = file.read().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            local, state = line.split()[1], line.split()[3]
            address, _, port = local.partition(":")
            if state == _LISTEN and address != loopback and int(port, 16) in ports:
                return True
    return False


def _healthcheck(service: Service) -> list[str]:
    kind, *words = service.image.healthcheck or ("NONE",)
    # A port that the job names is more than what the image's author thought of.
    if kind == "NONE" or any(variable.key == PORT_VARIABLE for variable in service.asked.variables):
        return []
    return ["/bin/sh", "-c", *words] if kind == "CMD-SHELL" else words


def _healthy(container: str, check: Sequence[str]) -> bool:
    return podman.run("exec", container, *check).code == 0
