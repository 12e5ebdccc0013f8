"""The base class of every method: what each side computes and sends.

A method opens no files, logs nowhere, chooses no device, builds no Trainer and sees no test data.
One object serves both sides of a cell, so it must not carry anything across: it is frozen once it
is made, and only ``server.state`` and ``client.state`` outlive a call.

A whole method, one-shot averaging:

    class OneShot(Method):
        name = "one_shot"

        def client_update(self, client, received, round):
            return Message.of_model(client.train_classifier(client.cell.recipe).state)

        def aggregate(self, server, uploads, round):
            server.state.update(average(
                (upload.message.tensors, upload.client.samples) for upload in uploads))

        def models(self, server):
            net = server.build(server.cell.models[0])
            load(net, server.state)
            yield "global", net
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fedbench.config import Cell, MethodConfig
from fedbench.data.specs import DATASETS
from fedbench.errors import FedbenchError, SettingsError
from fedbench.federation.resources import declared
from fedbench.training.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fedbench.federation.client import Client, ClientInfo
    from fedbench.federation.message import Message
    from fedbench.federation.server import Server
    from fedbench.federation.synthetic import SyntheticSet
    from fedbench.training.logits import LogitBound


#: How names of final models begin where there is one for each architecture.
MIRROR = "mirror/"


@dataclass
class Upload:
    """What one client sent in one round.

    Attributes:
        client: Who sent it.
        chunks: Its messages, read once, in the order in which they were sent.
    """

    client: ClientInfo
    chunks: Iterator[Message]

    @property
    def message(self) -> Message:
        """The only message of this upload.

        Raises:
            FedbenchError: The client sent none or several.
        """
        messages = list(self.chunks)
        if len(messages) != 1:
            raise FedbenchError(
                f"client {self.client.id} sent {len(messages)} messages where one "
                "was expected; read `chunks`, once"
            )
        return messages[0]


@dataclass(frozen=True)
class Course:
    """Who does what in a round and what passes, in a few words each, for tables and diagrams.

    Attributes:
        down: What a client is sent.
        client: What it does.
        up: What it sends.
        server: What the server does with what all sent.
        leaves: What there is in the end.
    """

    down: str
    client: str
    up: str
    server: str
    leaves: str = "one model"


@dataclass(frozen=True)
class ClientTraining:
    """A training that ``Client.train_classifier`` shares between cells.

    Attributes:
        recipe: How clients train.
        proximal: μ of FedProx.
        snapshots: Epochs after which weights are kept as well.
        logit_bound: Bound on the length of logits in the loss.
    """

    recipe: Recipe
    proximal: float = 0.0
    snapshots: tuple[int, ...] = ()
    logit_bound: LogitBound | None = None


class Method(ABC):
    """One federated algorithm.

    Args:
        config: Its settings, an instance of ``Config``.
    """

    #: What users write.
    name: ClassVar[str]
    #: Part of the cell id: raised when results change; refactoring does not.
    version: ClassVar[int] = 1
    #: Its settings; every default carries its source.
    Config: ClassVar[type[MethodConfig]] = MethodConfig
    #: Which accuracy heads the row: the model named ``global`` (the mean over mirrors where there
    #: is one for each architecture), or the mean over all models.
    headline: ClassVar[Literal["global", "mean"]] = "global"
    #: Who does what and what passes, in words; None where a method of somebody else does not say.
    course: ClassVar[Course | None] = None
    #: Named partial settings, by name.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    #: Whether the cell's budget applies; if not, it is no part of the cell id.
    uses_budget: ClassVar[bool] = False
    #: Whether it trains by the cell's ``student`` recipe; if not, that is no part of the cell id.
    uses_student: ClassVar[bool] = False
    #: Whether all clients take part in every round, whatever the cell's participation.
    everyone: ClassVar[bool] = False
    #: A row to compare with rather than a contender.
    control: ClassVar[bool] = False
    #: Whether equal settings give equal bits on a GPU, too. Where not, operations that a GPU
    #: cannot repeat are allowed there, and the record says so (see ``docs/devices.md``).
    deterministic: ClassVar[bool] = True

    def __init__(self, config: MethodConfig) -> None:
        self.config = config
        self._frozen = True

    def __setattr__(self, name: str, value: object) -> None:
        if getattr(self, "_frozen", False):
            raise FedbenchError(
                f"method {self.name!r} sets its attribute {name!r} at work; only "
                "server.state and client.state outlive a call"
            )
        super().__setattr__(name, value)

    def skip(self, cell: Cell) -> str | None:
        """Return why this cell cannot run, or None; asked at plan time, without data."""
        return None

    def warnings(self, cell: Cell) -> tuple[str, ...]:
        """Return what a cell that can run does otherwise than its settings suggest, and the fix.

        Asked at plan time, without data; each is a sentence or two, shown once a suite. The
        setting in backticks is the one whose line `fedbench validate` shows.
        """
        return ()

    def resources(self, cell: Cell) -> tuple[str, ...]:
        """Return the resources that it uses, by name (see ``federation.resources``).

        The record names them. Asked of every cell, those that ``skip`` refuses included: their ids
        need it.
        """
        return ()

    def disclosures(self, cell: Cell) -> tuple[str, ...]:
        """Return in words what clients tell the server beside models and images, if it leaks.

        Such as how many images of each class they hold. The record lists it with the privileges.
        """
        return ()

    def plugins(self, cell: Cell) -> dict[str, str]:
        """Return the digests of the plugin files behind its resources, part of the cell's id."""
        found: dict[str, str] = {}
        for name in self.resources(cell):
            with suppress(SettingsError):  # such a cell is skipped
                found |= declared(name).plugins()
        return found

    def rounds(self) -> int:
        """Return the number of communication rounds; 0 for methods that never communicate."""
        return 1

    def client_training(self, cell: Cell) -> ClientTraining | None:
        """Return the training from the common initial weights that clients begin with, or None.

        Plans count what cells share by it, and put the producers first. It changes no result.
        """
        return None

    def passes(self, cell: Cell) -> float | None:
        """Return how many images are trained on, repetitions counted, or None if unknown.

        Estimates of time are scaled by it; it changes no result.
        """
        images = training_images(cell)
        training = self.client_training(cell)
        recipe = training.recipe if training else cell.recipe
        share = 1.0 if self.everyone or not self.rounds() else cell.participation
        return images and images * recipe.epochs * max(self.rounds(), 1) * share

    def setup(self, server: Server) -> None:  # noqa: B027  (most methods start from nothing)
        """Fill ``server.state`` before the first round."""

    def broadcast(self, server: Server, to: ClientInfo, round: int) -> Message | None:
        """Return what a client is sent in a round; None sends nothing and costs nothing."""
        return None

    def client_update(
        self, client: Client, received: Message | None, round: int
    ) -> Message | Iterable[Message] | None:
        """Work at a client and return what it sends.

        Args:
            client: With its own data; out of reach afterwards.
            received: What ``broadcast`` returned for it, serialised and parsed.
            round: From 0.

        Returns:
            A message, or an iterable of chunks that are charged and spooled one by one, or None.
        """
        return None

    @abstractmethod
    def aggregate(self, server: Server, uploads: Iterable[Upload], round: int) -> None:
        """Work at the server.

        Args:
            server: Its state is committed after this call.
            uploads: Read once; each client works when its upload is asked for, in order of ids.
            round: From 0.
        """

    @abstractmethod
    def models(self, server: Server) -> Iterable[tuple[str, nn.Module]]:
        """Yield the final models by name: ``global``, or several such as ``mirror/resnet8``."""

    def client_model(self, client: Client) -> nn.Module | None:
        """Return a final model that stays at a client, or None."""
        return None

    def synthetic(self, server: Server) -> SyntheticSet | Mapping[str, SyntheticSet] | None:
        """Return the shared set of images, an output of the record, or None.

        Of several sets by name, ``synthetic`` is what the method shares: the budget bounds it
        alone. Others, such as the real images that it began with, are kept for comparison.
        """
        return None

    def outputs(self, server: Server) -> Mapping[str, Mapping[str, Tensor]]:
        """Return further outputs of the record by name, each of named tensors."""
        return {}

    def client_outputs(self, client: Client) -> Mapping[str, Tensor]:
        """Return what the record keeps of a client's own work, as its output ``client/ID``.

        For people who look at a cell: nobody at work sees it, so nobody pays for it.
        """
        return {}

    def findings(
        self, server: Server, clients: Mapping[int, Mapping[str, Tensor]]
    ) -> Mapping[str, Any]:
        """Return what the record says of the work in plain words and numbers, as JSON values.

        Args:
            server: After the last round.
            clients: What ``client_outputs`` returned, by client.
        """
        return {}


def training_images(cell: Cell) -> int | None:
    """Return how many training images a cell has, or None where only the files can tell."""
    sizes = (cell.data.train_size, DATASETS.get(cell.data.name).train_size)
    return min((size for size in sizes if size), default=None)
