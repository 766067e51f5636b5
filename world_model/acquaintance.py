"""Which robots a Prophet knows: the domain that a dataset belongs to, or a new one for it."""

import dataclasses
from collections.abc import Iterator, Sequence

from learning.data_sources import Dataset
from robot_stack.core.errors import SpecMismatchError, UnknownNameError
from world_model.checkpoint import Prophet
from world_model.domain import Domain


def new_domain(dataset: Dataset, camera: str | None) -> Domain:
    """What ``dataset`` tells of its robot.

    Raises:
        UnknownNameError: it has no such camera.
    """
    if camera is not None and camera not in dataset.cameras:
        raise UnknownNameError(f"camera of dataset {dataset.name}", camera, dataset.cameras)
    return Domain.of_episodes(
        dataset.name,
        dataset.episodes,
        dataset.action_kinds,
        camera or dataset.cameras[0],
        robot=dataset.robot,
        fingerprint=dataset.fingerprint,
        rate_hz=dataset.rate_hz,
        still=dataset.still,
    )


def domain_of(prophet: Prophet, dataset: Dataset) -> str | None:
    """Name of the domain that knows the robot of ``dataset``; None where none does.

    Raises:
        SpecMismatchError: it knows the robot, but at another rate.
    """
    for name, domain in prophet.domains.items():
        same = domain.fingerprint == dataset.fingerprint and (dataset.fingerprint or domain.robot == dataset.robot)
        if same and domain.kinds == dataset.action_kinds:
            domain.check_rate(dataset.rate_hz, f"dataset {dataset.name}")
            return name
    return None


def knowing(prophet: Prophet, dataset: Dataset) -> Prophet:
    """``prophet`` with the domain of ``dataset`` in use.

    Raises:
        SpecMismatchError: it does not know that robot; lists those that it knows.
    """
    name = domain_of(prophet, dataset)
    if name is None:
        known = [f"it knows {d.robot} with actions {', '.join(d.kinds)} (domain {d.name})" for d in prophet.domains.values()]
        ours = f"robot {dataset.robot} with actions {', '.join(dataset.action_kinds)} of dataset {dataset.name}"
        raise SpecMismatchError("the world model", ours, [*known, "`prophrl adapt` teaches it another robot"])
    return prophet.using(name)


def acquainted(prophet: Prophet, datasets: Sequence[Dataset], camera: str | None) -> tuple[Prophet, list[str]]:
    """``prophet`` with a domain for every dataset, that of the first one in use; and their names in the datasets' order.

    A robot that it knows keeps the normalisation that its weights were made for.
    """
    domains, names = dict(prophet.domains), []
    for dataset in datasets:
        known = domain_of(prophet, dataset)
        if known is None:
            domain = new_domain(dataset, camera)
            known = next(name for name in _numbered(domain.name) if name not in domains)
            domains[known] = dataclasses.replace(domain, name=known)
        elif camera is not None:
            domains[known] = dataclasses.replace(domains[known], camera=camera)
        names.append(known)
    return prophet.replace(domains=domains, active=names[0]), names


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1
