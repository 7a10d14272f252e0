"""A GAN generates every digit, and a classifier recognises most of them.

The lecture: a GAN generates images that look like real ones ("실제 이미지와 비슷해
보이는 이미지를 생성하는 모델"), without labels ("비지도 학습 기반 생성모델"). Measured:
how many of 10,000 generated digits a classifier assigns to each digit with a
probability of at least 0.9. D's loss compares pairs, with the penalties R1 and R2.
"""

from typing import Any, NamedTuple

import numpy as np

from demos._demo import Demo, main
from demos.gan import BETAS, averaged, normal
from scratchnet import backend, plots
from scratchnet.byhand import GAN
from scratchnet.data.digits import draw_digits
from scratchnet.models.supervised import Classifier
from scratchnet.optim import Adam, hold_then_decay
from scratchnet.training import fit, fit_gan


class Generated(NamedTuple):
    """10,000 generated digits, and the classes that a classifier assigns."""

    x: np.ndarray  # (10,000, 784)
    label: np.ndarray  # (10,000,) the most probable digit
    sure: np.ndarray  # (10,000,) whether its probability is at least 0.9
    accuracy: float  # of the classifier on held-out drawn digits

    @property
    def shares(self) -> np.ndarray:
        """The fraction of all samples that is surely a 0, a 1, ...: (10,)."""
        return np.bincount(self.label[self.sure], minlength=10) / len(self.x)


def teacher(demo: Demo, seed: int) -> tuple[Classifier, float]:
    """Train a classifier of drawn digits; return it and its held-out accuracy."""
    draw, other, init, shuffle = backend.streams(seed + 2000, 4)
    train = draw_digits(demo.choose(20_000, 8000), draw)
    held_out = draw_digits(2000, other)
    classifier = Classifier((784, 256, 10), rng=init)
    fit(
        classifier, (train.x, train.label), epochs=demo.choose(8, 5), batch_size=128,
        rng=shuffle, optimizer=Adam(classifier.parameters()),
    )  # fmt: skip
    return classifier, classifier.accuracy(held_out.x, held_out.label)


def generate_digits(demo: Demo, seed: int) -> Generated:
    """Train on drawn digits, generate 10,000, and classify them."""
    classifier, accuracy = teacher(demo, seed)
    data_rng, init, shuffle, noise, look = backend.streams(seed, 5)
    steps = demo.choose(5000, 400)
    x = draw_digits(demo.choose(20_000, 4000), data_rng).x
    gan = GAN(
        (32, 256, 256, 784), (784, 256, 256, 1), rng=init, objective="relativistic",
        r1=1.0, r2=1.0, betas=BETAS, lr=hold_then_decay(1e-3, steps),
    )  # fmt: skip
    ema = averaged(gan, steps)
    fit_gan(
        gan, x, steps=steps, batch_size=128, rng=shuffle, noise=noise, average=ema,
        every=steps // 10,
    )  # fmt: skip
    with ema.average():
        x = gan.generate(normal(look, 10_000, 32))
    p = classifier.probabilities(x)
    return Generated(x, p.argmax(axis=1), p.max(axis=1) >= 0.9, accuracy)


@plots.styled
def draw_shares(made: Generated, claimed: float) -> Any:
    """Draw a row of generated digits for each class, and the share of each."""
    kinds = [made.sure & (made.label == digit) for digit in range(10)] + [~made.sure]
    names = [*"0123456789", "not sure"]
    sheet = np.zeros((len(kinds), 12, 28, 28))
    for row, kind in zip(sheet, kinds, strict=True):
        mine = made.x[kind][: len(row)]
        row[: len(mine)] = mine.reshape(-1, 28, 28)
    figure, axes = plots.panels(
        1, 2, (3.5, 4.5), sharey=True, gridspec_kw={"width_ratios": [12, 7]}
    )
    left, right = axes[0]
    left.imshow(
        sheet.transpose(0, 2, 1, 3).reshape(28 * len(kinds), -1),
        extent=(0, 12, len(kinds) - 0.5, -0.5), vmin=0, vmax=1, aspect="auto",
    )  # fmt: skip
    left.set_title("12 generated digits of each class")
    left.set_ylabel("the classifier's answer, at least 90 % sure")
    left.set_yticks(range(len(kinds)), names)
    left.set_xticks([])
    left.tick_params(length=0)
    left.spines[:].set_visible(False)
    left.grid(False)
    shares = [100 * np.mean(kind) for kind in kinds]
    colors = [plots.COLORS[0]] * 10 + ["#999999"]
    bars = right.barh(range(len(kinds)), shares, color=colors)
    right.bar_label(bars, fmt="%.1f %%", padding=3)
    right.plot([claimed] * 2, [-0.5, 9.5], color="black", ls=":")
    right.set_title(f"dotted: claimed, {claimed:g} %")
    right.set_xlabel(f"% of {len(made.x):,} generated")
    right.set_xlim(0, 1.4 * max(shares))
    right.tick_params(axis="y", length=0)
    right.spines["left"].set_visible(False)
    right.grid(False)
    return figure


def run(demo: Demo) -> None:
    """Train the GAN and the classifier, and judge the generated digits."""
    made = generate_digits(demo, demo.seed)
    accuracy = demo.choose(98.0, 95.0)
    demo.claim("the classifier's accuracy on drawn digits (%)", 100 * made.accuracy,
               at_least=accuracy)  # fmt: skip
    rarest = demo.choose(5.0, 0.05)
    demo.claim("share of the rarest digit (%)", 100 * made.shares.min(),
               at_least=rarest)  # fmt: skip
    demo.save(draw_shares(made, rarest))


if __name__ == "__main__":
    main(__name__)
