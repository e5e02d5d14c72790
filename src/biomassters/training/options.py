"""What a training run may be told; no torch, so that the command line starts fast.

The defaults suit the small simulated forest on a CPU. The recipe of the challenge's first
place is quoted in the descriptions where it differs.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from biomassters.inference.options import ViewName
from biomassters.loading.options import AugmentationOptions
from biomassters.network.options import ExecutionOptions
from biomassters.options import Options
from biomassters.training.losses import LOSSES

NETWORK_STRIDE = 32
"""The encoder's deepest features have this stride: sides must be multiples of it."""


class LaunchOptions(Options):
    """Ranks: one process a GPU, or several on the CPU."""

    nodes: int = Field(
        default=1,
        ge=1,
        description="Machines; each runs the same command and holds world_size / nodes ranks.",
    )
    rendezvous_address: str = Field(
        default="",
        pattern=r"^(|[\w.\-]+:\d{1,5})$",
        description="host:port of the first machine, where the others find it; empty on a single "
        "machine.",
    )
    max_restarts: int = Field(
        default=3,
        ge=0,
        description="Times that lost ranks are started again, from the newest checkpoint, before "
        "the run gives up.",
    )
    timeout_s: float = Field(
        default=600.0,
        gt=0.0,
        description="Seconds after which a rank or a machine that does not answer is lost.",
    )


START_NEW, START_LAST, START_BEST = "new", "last", "best"


class StageOptions(Options):
    """One stage of training; what it leaves null is as ``training`` has it."""

    name: str = Field(
        pattern=r"^[A-Za-z][A-Za-z0-9_-]*$",
        description="Of its checkpoints and curves; each stage has another.",
    )
    epochs: int | None = Field(
        default=None, ge=0, description="Passes over its chips; 0 skips the stage."
    )
    learning_rate: float | None = Field(default=None, gt=0.0, description="At its start.")
    final_learning_rate: float | None = Field(
        default=None, ge=0.0, description="Where its own cosine would end."
    )
    chips: Literal["training_folds", "all"] = Field(
        default="training_folds",
        description="What it learns from: all folds but the one held out, or every labelled chip, "
        "without validation.",
    )
    start: str = Field(
        default=START_NEW,
        min_length=1,
        description="new weights, the last or the best ones of the stage before, or a "
        ".safetensors file. The optimizer always starts anew.",
    )
    restart: bool = Field(
        default=False, description="Start this stage afresh: delete its earlier checkpoints."
    )

    @property
    def weights_file(self) -> str | None:
        """The file that it starts from, if it starts from one."""
        return None if self.start in (START_NEW, START_LAST, START_BEST) else self.start


class TrainingOptions(Options):
    """How networks are trained, in one stage or several."""

    free_options: ClassVar[frozenset[str]] = frozenset({
        "restart", "stages", "stop_after", "keep", "device", "world_size", "launch",
        "loader_threads", "loader_prefetch", "loader_timeout_s", "execution", "bad_steps_allowed",
        "checkpoint_every_epochs", "checkpoint_every_minutes", "checkpoints_kept",
    })  # fmt: skip
    """Options that may differ when a stage is continued: they don't change its experiment."""

    stages: tuple[StageOptions, ...] = Field(
        default=(
            StageOptions(name="fit"),
            StageOptions(
                name="finetune", epochs=0, learning_rate=3e-4, chips="all", start=START_LAST
            ),
        ),
        description="What is done one after another. Reference: four stages (conf/biomassters).",
    )
    stop_after: str | None = Field(
        default=None, description="Name of the stage after which to stop; null: the last one."
    )

    # What is learnt from
    seed: int = Field(
        default=20230126, ge=0, lt=2**32, description="Of weights, order, augmentation."
    )
    folds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(0,),
        description="Folds that are held out, each by a network of its own, and validate it; the "
        "networks' predictions of other chips are averaged. [] trains one on every fold, without "
        "validation.",
    )
    crop: int | None = Field(
        default=None,
        description="Side of the random training crop, pixels; null for whole chips, as the "
        "reference has them. Refused where some taps of a kernel would meet padding alone and "
        "never be trained.",
    )
    crops_per_chip: int = Field(
        default=1,
        ge=1,
        description="Samples of each chip in an epoch, each with a crop and augmentation of its "
        "own: more than one where chips are few.",
    )
    augmentation: AugmentationOptions = Field(
        default=AugmentationOptions(), description="How chips are varied."
    )

    # How it is learnt
    start_from_weights: str | None = Field(
        default=None,
        description="Weights file (.safetensors) that stages begin with which would start new: the "
        "reference's, or another place's. network must describe the same backbone and decoder.",
    )
    start_scaling: Literal["weights", "chips"] = Field(
        default="weights",
        description="Min-max constants of a start from weights. weights: theirs; chips that were "
        "given others (data_engineering.scaling) are refused. chips: the chips' own, on purpose; "
        "the first layers then see other numbers than they learnt from.",
    )
    start_from_labels: bool = Field(
        default=True,
        description="Scale the fresh network's last layer to the mean and standard deviation "
        "of the labels, which saves hundreds of steps. The reference does not.",
    )
    start_unbiased: bool = Field(
        default=False,
        description="Before the first step of a start from weights, take their mean error on the "
        "training chips off the last layer's bias: of n chips n / (n + 1) of it.",
    )
    epochs: int = Field(
        default=18, ge=1, description="Passes over the training chips, in a stage that names none."
    )
    batch_size: int = Field(
        default=8, ge=1, description="Chips per optimizer step, over all devices. Reference: 16."
    )
    gradient_accumulation: int = Field(
        default=1,
        ge=1,
        description="Parts that a batch is worked in, one after another, to save memory; ranks "
        "share them out, and each has at least one.",
    )
    cpu_parts: int = Field(
        default=2,
        ge=1,
        description="On a CPU, parts that are worked side by side, a thread each, with at least "
        "two chips; cores beyond them compute inside a part, and ranks share them out. Batch "
        "normalization sees a part. A GPU works on the whole.",
    )
    drop_last: bool = Field(
        default=True, description="Leave out the incomplete last batch of an epoch."
    )
    learning_rate: float = Field(
        default=5e-3,
        description="At the start of a stage that names none; falls as a cosine per epoch. "
        "Reference: 1e-3.",
    )
    final_learning_rate: float = Field(
        default=0.0, ge=0.0, description="Where the cosine would end, in a stage that names none."
    )
    keep_batch_norm_statistics: bool = Field(
        default=False,
        description="Normalize with the running statistics that training started with, and leave "
        "them as they are, instead of with those of each batch: for few chips, whose statistics "
        "the network would learn to rely on.",
    )
    freeze_batch_norm_share: float = Field(
        default=0.25,
        ge=0.0,
        lt=1.0,
        description="Share of a stage's epochs, the last ones, that normalize with the running "
        "statistics, which stay as they are: so that the network learns to do without those of its "
        "batch. 0.25 are the last 4 of 18 epochs, and none of 3.",
    )
    weight_decay: float = Field(
        default=1e-2, ge=0.0, description="AdamW's, not applied to biases and other 1-D parameters."
    )
    gradient_clip_norm: float | None = Field(
        default=5.0, gt=0.0, description="Largest norm of the gradient; null does not clip."
    )
    loss: str = Field(
        default="masked_rmse",
        description="What is made small: masked_rmse, as the reference, masked_mse, masked_mae or "
        "masked_huber (quadratic up to 30 Mg/ha), each the mean over chips. Learning rate and "
        "gradient_clip_norm suit masked_rmse; gradients of masked_mse and masked_huber grow with "
        "the error.",
    )
    loss_limit_mg_per_ha: float = Field(
        default=400.0, gt=0.0, description="Label pixels at or above it are left out of the loss."
    )
    ema_decay: float | None = Field(
        default=0.95,
        gt=0.0,
        lt=1.0,
        description="Decay per step of the averaged weights, which are then the ones validated "
        "and returned; null keeps no average, as the reference.",
    )

    sync_batch_norm: bool = Field(
        default=False,
        description="Normalize with the statistics of all ranks' chips instead of each rank's own; "
        "GPUs only. The reference does not.",
    )

    # How it is validated
    validate_every_epochs: int = Field(
        default=2,
        ge=1,
        description="Epochs between validations; the last epoch is always validated.",
    )
    validation_views: tuple[ViewName, ...] = Field(
        default=("identity",), min_length=1, description="Test-time views averaged in validation."
    )
    validation_score: Literal["maps", "reference"] = Field(
        default="maps",
        description="What best is chosen by: maps: the mean of all views, negative biomass set to "
        "0, as maps are handed in; reference: not clipped, of the first view alone, of the first "
        "two averaged, and so on, the least.",
    )
    validation_precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="Arithmetic of validation; auto: as in training."
    )
    validation_batch_size: int = Field(
        default=4, ge=1, description="Whole chips validated together."
    )

    keep: Literal["last", "best"] = Field(
        default="last",
        description="Weights that are kept: those after the last epoch, where the cosine ends, or "
        "those of the best validation. best chooses by the chips that score and calibrate, which "
        "flatters both; the report says by how much. Changing it trains nothing again.",
    )

    # On what it runs
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="auto takes the first CUDA device, or the CPU.",
    )
    world_size: int = Field(
        default=1,
        ge=1,
        description="Processes (ranks) that share each batch: one a GPU, or several on the CPU. "
        "Batch, learning rate and order of the chips don't depend on it.",
    )
    launch: LaunchOptions = Field(
        default=LaunchOptions(), description="How ranks are started, when there are several."
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="auto takes bfloat16 on a CUDA device that has it, float32 elsewhere. float16 "
        "scales the loss against underflow, as the reference.",
    )
    execution: ExecutionOptions = Field(
        default=ExecutionOptions(),
        description="How the network is computed; what it learns stays, but for rounding.",
    )
    loader_threads: int = Field(
        default=2, ge=1, description="Threads that read chips, in each rank."
    )
    loader_prefetch: int = Field(default=3, ge=1, description="Batches read ahead.")
    loader_timeout_s: float = Field(
        default=300.0,
        gt=0.0,
        description="Seconds without a batch after which the loader is stalled.",
    )

    # What survives a crash
    restart: bool = Field(
        default=False,
        description="Start every stage afresh: delete earlier checkpoints, don't continue.",
    )
    checkpoint_every_epochs: int = Field(default=2, ge=1, description="Epochs between checkpoints.")
    checkpoint_every_minutes: float = Field(
        default=10.0, gt=0.0, description="Minutes between checkpoints, inside an epoch too."
    )
    checkpoints_kept: int = Field(
        default=2,
        ge=2,
        description="Newest checkpoints kept; two, so that a damaged one costs little.",
    )
    bad_steps_allowed: int = Field(
        default=5,
        ge=0,
        description="Steps in a row that may be skipped because loss or gradient is not "
        "finite; one more stops the run.",
    )

    @field_validator("learning_rate")
    @classmethod
    def _learns(cls, value: float) -> float:
        if not 0.0 < value < float("inf"):
            raise ValueError(
                f"the learning rate is {value}, with which nothing is learnt; "
                "give a positive number, the recipe uses 1e-3."
            )
        return value

    @field_validator("loss")
    @classmethod
    def _known_loss(cls, name: str) -> str:
        if name not in LOSSES:
            raise ValueError(f"there is no loss of this name; choose among {', '.join(LOSSES)}.")
        return name

    @field_validator("folds")
    @classmethod
    def _each_fold_once(cls, folds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(folds)) < len(folds):
            raise ValueError(f"folds {list(folds)} name a fold twice; name each once.")
        return folds

    @field_validator("crop")
    @classmethod
    def _fits_network(cls, value: int | None) -> int | None:
        if value is not None and (value < NETWORK_STRIDE or value % NETWORK_STRIDE):
            below = max(NETWORK_STRIDE, value // NETWORK_STRIDE * NETWORK_STRIDE)
            above = below + NETWORK_STRIDE
            raise ValueError(
                f"a crop of {value} pixels does not fit the network, which needs a multiple of "
                f"{NETWORK_STRIDE}; use {below} or {above}, or null for whole chips."
            )
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.batch_size % self.gradient_accumulation:
            raise ValueError(
                f"batch_size {self.batch_size} does not split into gradient_accumulation "
                f"{self.gradient_accumulation} equal parts; use a divisor of the batch size."
            )
        if self.world_size > self.batch_size or self.world_size % self.launch.nodes:
            raise ValueError(
                f"world_size {self.world_size} does not fit batch_size {self.batch_size} and "
                f"launch.nodes {self.launch.nodes}; take a multiple of the machines, and at most "
                "one rank a chip of the batch."
            )
        if (self.launch.nodes > 1) != bool(self.launch.rendezvous_address):
            raise ValueError(
                f"launch.nodes is {self.launch.nodes} and launch.rendezvous_address is "
                f"'{self.launch.rendezvous_address}'; give several machines the first one's "
                "host:port, a single machine none."
            )
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"final_learning_rate {self.final_learning_rate} is above learning_rate "
                f"{self.learning_rate}; the rate falls, so lower the final one."
            )
        return self

    @model_validator(mode="after")
    def _stages_follow_one_another(self) -> Self:
        names = [stage.name for stage in self.stages]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"two stages are called {twice[0]}; give each another name.")
        if self.stop_after is not None and self.stop_after not in names:
            raise ValueError(
                f"stop_after names the stage {self.stop_after}, which is not there; choose among "
                f"{', '.join(names)}."
            )
        before: StageOptions | None = None
        for stage in self.active_stages():
            self._check_stage(stage, before)
            before = stage
        if before is None:
            raise ValueError("no stage has any epochs; give one of stages some.")
        return self

    def _check_stage(self, stage: StageOptions, before: StageOptions | None) -> None:
        rate, final = self.of_stage(stage).learning_rate, self.of_stage(stage).final_learning_rate
        if final > rate:
            raise ValueError(
                f"stage {stage.name}: final_learning_rate {final} is above learning_rate {rate}; "
                "the rate falls, so lower the final one."
            )
        if stage.start not in (START_LAST, START_BEST):
            return
        if before is None:
            raise ValueError(
                f"stage {stage.name} starts from the {stage.start} weights of a stage before it, "
                "and there is none with epochs; let it start new or from a weights file, or give "
                "an earlier stage epochs."
            )
        if stage.start == START_BEST and not self.of_stage(before).folds:
            raise ValueError(
                f"stage {stage.name} starts from the best weights of {before.name}, which "
                "validates on nothing; let it start from the last, or hold out a fold before."
            )
        if self.of_stage(stage).folds and not self.of_stage(before).folds:
            raise ValueError(
                f"stage {stage.name} holds out a fold that {before.name} has learnt from, so "
                "nothing is held out; let it learn from all chips, or put it before."
            )

    def active_stages(self) -> list[StageOptions]:
        """Stages with epochs, in order, up to the one after which to stop, and where they start."""
        names = [stage.name for stage in self.stages]
        last = names.index(self.stop_after) if self.stop_after in names else len(names)
        given = {} if self.start_from_weights is None else {"start": self.start_from_weights}
        return [
            stage.model_copy(update=given) if stage.start == START_NEW else stage
            for stage in self.stages[: last + 1]
            if stage.epochs != 0
        ]

    def of_stage(self, stage: StageOptions) -> "TrainingOptions":
        """The options of one stage's run."""
        own = {"epochs", "learning_rate", "final_learning_rate"}
        given = {name: value for name, value in stage if name in own and value is not None}
        given["folds"] = self.folds if stage.chips == "training_folds" else ()
        given["restart"] = self.restart or stage.restart
        return self.model_copy(update=given)
