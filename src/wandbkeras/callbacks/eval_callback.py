"""wandb's base class for callbacks of a user's own that log predictions as tables, offline."""

from __future__ import annotations

import abc
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wandbkeras.callbacks.part import Part, never_raises
from wandbkeras.data_types import Table
from wandbkeras.recording.artifact import Artifact

Logs = Mapping[str, Any] | None


class WandbEvalCallback(Part, abc.ABC):
    """Logs a table of the data when training begins and one of predictions after each epoch.

    Names, arguments and methods are those of wandb's current callback. A subclass says what is in
    the tables, by :meth:`add_ground_truth` and :meth:`add_model_predictions`; either may leave out
    the argument ``logs``. The predictions may repeat values of the data's table, images too: they
    are stored once.

    Args:
        data_table_columns: the names of the columns of the data's table.
        pred_table_columns: the same for the predictions.

    Example::

        class Predictions(wandbkeras.WandbEvalCallback):
            def add_ground_truth(self, logs=None):
                for index, label in enumerate(y):
                    self.data_table.add_data(index, label)

            def add_model_predictions(self, epoch, logs=None):
                scores = self.model.predict(x, verbose=0)
                for index in self.data_table_ref.get_index():
                    self.pred_table.add_data(epoch, index, scores[index].argmax())

        model.fit(x, y, callbacks=[Predictions(["id", "label"], ["epoch", "row", "label"])])
    """

    needs = "model"

    data_table: Table
    data_table_ref: Table
    pred_table: Table

    def __init__(
        self, data_table_columns: Sequence[str], pred_table_columns: Sequence[str]
    ) -> None:
        super().__init__()
        self.data_table_columns = list(data_table_columns)
        self.pred_table_columns = list(pred_table_columns)

    @never_raises
    def on_train_begin(self, logs: Logs = None) -> None:
        self.init_data_table(column_names=self.data_table_columns)
        _with_logs(self.add_ground_truth, logs)
        self.log_data_table()

    @never_raises
    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self.init_pred_table(column_names=self.pred_table_columns)
        _with_logs(self.add_model_predictions, logs, epoch)
        self.log_pred_table()

    @abc.abstractmethod
    def add_ground_truth(self, logs: Logs = None) -> None:
        """Add the data to ``self.data_table``; called once, when training begins."""

    @abc.abstractmethod
    def add_model_predictions(self, epoch: int, logs: Logs = None) -> None:
        """Add what the model predicts to ``self.pred_table``; called after each epoch."""

    def init_data_table(self, column_names: Sequence[str]) -> None:
        """Make ``self.data_table``, without rows."""
        self.data_table = Table(columns=column_names)

    def init_pred_table(self, column_names: Sequence[str]) -> None:
        """Make ``self.pred_table``, without rows."""
        self.pred_table = Table(columns=column_names)

    def log_data_table(
        self, name: str = "val", type: str = "dataset", table_name: str = "val_data"
    ) -> None:
        """Record ``self.data_table`` in an artifact; ``self.data_table_ref`` is then that table.

        Args:
            name: the artifact's name.
            type: the artifact's type.
            table_name: the table's name in it.
        """
        artifact = Artifact(name, type)
        artifact.add(self.data_table, table_name)
        self.run.use_artifact(artifact)
        self.data_table_ref = self.data_table

    def log_pred_table(
        self,
        type: str = "evaluation",
        table_name: str = "eval_data",
        aliases: Sequence[str] | None = None,
    ) -> None:
        """Record ``self.pred_table`` as a version of the artifact ``run_<run id>_pred``.

        Args:
            type: the artifact's type.
            table_name: the table's name in it.
            aliases: names of this version; default: ``latest``.
        """
        artifact = Artifact(f"run_{self.run.id}_pred", type)
        artifact.add(self.pred_table, table_name)
        self.run.log_artifact(artifact, aliases=aliases or ["latest"])


def _with_logs(method: Callable[..., None], logs: Logs, *arguments: Any) -> None:
    """Call a method of the user's with ``logs`` if it takes them: wandb's own example does not."""
    try:
        inspect.signature(method).bind(*arguments, logs)
    except TypeError:
        method(*arguments)
    else:
        method(*arguments, logs)
