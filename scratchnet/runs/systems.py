"""The systems of the lecture: a row for each, with the defaults of its options."""

from collections.abc import Mapping
from typing import Any, NamedTuple

# Pictures that only some runs have: see `System.drawn`.
PLANE, CODES = "plane.png", "codes.png"


class System(NamedTuple):
    """A system of the lecture, for runs and the command line."""

    name: str  # in pictures
    about: str
    model: str  # the class, in byhand and in models
    length: str  # the option for the length of training: "epochs" or "steps"
    pictures: tuple[str, ...]  # all pictures that a run may have; see `drawn`
    defaults: dict[str, Any]  # the defaults of its options
    cannot: dict[str, str]  # commands that it does not support, and why
    against_pca: bool = False  # whether it is compared with PCA

    @property
    def passed(self) -> list[str]:
        """The options that are arguments of the model, under the same names."""
        return [name for name in self.defaults if name in ARGUMENTS]

    def drawn(self, options: Mapping[str, Any], *, ink: bool) -> list[str]:
        """Return the names of the pictures of a run.

        Args:
            options: the options of the run.
            ink: whether the images are ink on paper, like digits.

        """
        code = options.get("code", 0)
        left_out = set()
        if code != 2:
            left_out.add(PLANE)
        if code < 2 or not ink:
            left_out.add(CODES)
        return [name for name in self.pictures if name not in left_out]


ARGUMENTS = {  # options that are arguments of a model, under the same name
    "activation", "output", "loss", "decoder", "beta", "k",
    "objective", "r1", "r2", "packing",
}  # fmt: skip
ENGINES = ("byhand", "autograd")
COMMON = {"data": "drawn", "examples": None, "batch_size": 128, "seed": 0,
          "engine": "byhand"}  # fmt: skip
AUTOENCODER = {"activation": "relu", "output": "sigmoid", "loss": "squared", **COMMON}
VAE = {"code": 10, "hidden": [256, 256], "activation": "relu", "decoder": "bernoulli",
       "lr": 2e-3, **COMMON}  # fmt: skip
NO_PRIOR = {
    "sample": "an autoencoder has no distribution of codes to draw from; train vae, "
    "iwae or gan"
}
NO_ENCODER = "a GAN has no encoder, so it gives no code for an image; train vae"

SYSTEMS = {
    "autoencoder": System(
        name="autoencoder",
        about="compress images to a short code; compared with PCA",
        model="Autoencoder",
        length="epochs",
        pictures=("reconstructions.png", "loss.png", CODES),
        defaults={"code": 16, "hidden": [256], "epochs": 20, "lr": 4e-3, **AUTOENCODER},
        cannot=NO_PRIOR,
        against_pca=True,
    ),
    "stacked": System(
        name="stacked autoencoder",
        about="an autoencoder with several layers, pretrained one by one",
        model="StackedAutoencoder",
        length="epochs",
        pictures=("reconstructions.png", "loss.png", CODES),
        defaults={
            "code": 16,
            "hidden": [512, 256, 128],
            "pretrain": 3,
            "epochs": 20,
            "lr": 4e-3,
            **AUTOENCODER,
        },
        cannot=NO_PRIOR,
        against_pca=True,
    ),
    "denoising": System(
        name="denoising autoencoder",
        about="remove noise from images, or fog from a water deer",
        model="DenoisingAutoencoder",
        length="epochs",
        pictures=("reconstructions.png", "loss.png"),
        defaults={
            "corruption": None,
            "level": None,
            "code": 128,
            "hidden": [512],
            "epochs": 20,
            "lr": 2e-3,
            **AUTOENCODER,
        },
        cannot=NO_PRIOR,
    ),
    "vae": System(
        name="VAE",
        about="learn a distribution of codes, and draw new images",
        model="VAE",
        length="epochs",
        pictures=("reconstructions.png", "samples.png", "loss.png", PLANE, CODES),
        defaults={"beta": 1.0, "epochs": 50, **VAE},
        cannot={},
    ),
    "iwae": System(
        name="IWAE",
        about="a VAE with a tighter bound, from several draws",
        model="IWAE",
        length="epochs",
        pictures=("reconstructions.png", "samples.png", "loss.png", PLANE, CODES),
        defaults={"k": 5, "epochs": 30, **VAE},
        cannot={},
    ),
    "gan": System(
        name="GAN",
        about="train a generator of images against a discriminator",
        model="GAN",
        length="steps",
        pictures=("samples.png", "game.png"),
        defaults={
            "noise": 32,
            "hidden": [256, 256],
            "steps": 8000,
            "objective": "non_saturating",
            "r1": 1.0,
            "r2": 0.0,
            "packing": 1,
            "discriminator_steps": 1,
            "ema": 0.99,
            "activation": "leaky_relu",
            "lr": 1e-3,
            **COMMON,
        },
        cannot={"reconstruct": NO_ENCODER, "encode": NO_ENCODER},
    ),
}
