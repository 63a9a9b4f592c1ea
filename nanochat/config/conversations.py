"""What the stages that train on conversations can be told besides."""

from __future__ import annotations

from pydantic import Field

from nanochat.config.training import TrainConfig


class ChatTrainConfig(TrainConfig):
    """Training of an existing model on a mixture of conversation tasks."""

    mixture: dict[str, int] = Field(min_length=1, description="task -> number of training conversations")
    val_mixture: dict[str, int] = Field(
        min_length=1, description="task -> number of validation conversations"
    )

    def task_modules(self) -> list[str]:
        """Modules of ``nanochat.tasks`` that this mixture depends on, for the fingerprint."""
        from nanochat.tasks.mixture import task_modules

        return sorted(task_modules([*self.mixture, *self.val_mixture]))
