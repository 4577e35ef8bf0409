"""Pipeline schedules: when they are due, and what they start."""

import zoneinfo
from datetime import datetime

from cronsim import CronSim, CronSimError

from imagechain.testing.pipelines import PipelineRefusedError, Pipelines
from imagechain.testing.state import State
from imagechain.testing.values import Pipeline, Project, Schedule, SimulationError, User


class Schedules:
    """Makes schedules and runs those that are due."""

    def __init__(self, state: State, pipelines: Pipelines) -> None:
        self._state = state
        self._pipelines = pipelines

    def create(
        self,
        project: Project,
        *,
        owner: User,
        ref: str,
        cron: str,
        description: str = "",
        cron_timezone: str = "UTC",
        active: bool = True,
    ) -> Schedule:
        """Make a schedule.

        Raises:
            SimulationError: its cron pattern or time zone is wrong, or the project has too many.
        """
        if len(project.schedules) >= self._state.settings.schedules_per_project_max:
            most = self._state.settings.schedules_per_project_max
            raise SimulationError(f"Maximum number of pipeline schedules ({most}) exceeded")
        now = self._state.clock()
        schedule = Schedule(
            id=self._state.next_id("schedule"),
            project=project.id,
            owner=owner.id,
            description=description,
            ref=ref if ref.startswith("refs/") else f"refs/heads/{ref}",
            cron=cron,
            cron_timezone=cron_timezone,
            active=active,
            created_at=now,
            updated_at=now,
        )
        self.plan_next(schedule)
        project.schedules[schedule.id] = schedule
        return schedule

    def plan_next(self, schedule: Schedule) -> None:
        """Compute when a schedule is due next.

        Raises:
            SimulationError: its cron pattern or time zone is wrong.
        """
        try:
            zone = zoneinfo.ZoneInfo(schedule.cron_timezone)
            schedule.next_run_at = next(
                CronSim(schedule.cron, datetime.fromtimestamp(self._state.clock(), zone))
            ).timestamp()
        except CronSimError as error:
            raise SimulationError(" is invalid syntax") from error
        except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
            raise SimulationError(" is invalid time zone") from error

    def play(self, schedule: Schedule, user: User) -> Pipeline:
        """Run a schedule now.

        Raises:
            PipelineRefusedError: its pipeline is refused.
        """
        project = self._state.projects[schedule.project]
        pipeline = self._pipelines.create(
            project,
            schedule.ref,
            user=user,
            source="schedule",
            variables=tuple(schedule.variables.values()),
            inputs=schedule.inputs,
        )
        schedule.pipelines.append(pipeline.id)
        return pipeline

    def run_due(self) -> list[Pipeline]:
        """Run all active schedules whose time has come, as GitLab's own worker does every few minutes."""
        now = self._state.clock()
        started: list[Pipeline] = []
        for project in self._state.projects.values():
            for schedule in project.schedules.values():
                if schedule.active and schedule.next_run_at is not None and schedule.next_run_at <= now:
                    try:
                        started.append(self.play(schedule, self._state.users[schedule.owner]))
                    except PipelineRefusedError:
                        schedule.active = False  # GitLab switches off a schedule that it cannot run.
                    self.plan_next(schedule)
        return started
