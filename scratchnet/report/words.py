"""The words of the page, in English and Korean.

Terms are the lecture's own (판별 네트워크 for the discriminator); `{name}` is replaced.
A page holds both languages, and a button switches between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

LANGUAGES = ("en", "ko")

WORDS: Mapping[str, tuple[str, str]] = {
    # Systems
    "autoencoder": ("autoencoder", "오토인코더"),
    "stacked": ("stacked autoencoder", "Stacked 오토인코더"),
    "denoising": ("denoising autoencoder", "노이즈 제거 오토인코더"),
    "vae": ("variational autoencoder (VAE)", "변이형 오토인코더(VAE)"),
    "iwae": ("importance weighted autoencoder (IWAE)", "중요도 가중 오토인코더(IWAE)"),
    "gan": ("generative adversarial network (GAN)", "적대적 생성 신경망(GAN)"),
    # Data
    "drawn": ("drawn digits", "그려서 만든 숫자"),
    "deer": ("scenes with a water deer", "고라니가 있는 장면"),
    "mnist": ("MNIST", "MNIST"),
    "folder": ("images of {name}", "{name}의 이미지"),
    # What was trained, and how well
    "trained": (
        "A {system}, trained on {n} {data}, {length}.",
        "{data} {n}개로 학습한 {system}, {length}.",
    ),
    "epochs": ("{n} epochs", "{n} 에폭"),
    "steps": ("{n} steps of the generator", "생성 네트워크 {n} 스텝"),
    "result_pca": (
        "Squared error per held-out image, from {code} numbers: {error}. PCA, the best "
        "linear code of the same size: {pca}.",
        "검증 이미지당 제곱 오차, 코드 {code}개: {error}. 같은 크기의 가장 좋은 선형 "
        "코드인 주성분 분석(PCA): {pca}.",
    ),
    "result_denoising": (
        "PSNR of held-out images: {before} dB corrupted, {after} dB cleaned.",
        "검증 이미지의 PSNR: 훼손된 이미지 {before} dB, 복원한 이미지 {after} dB.",
    ),
    "result_vae": (
        "On held-out images, nats per image: ELBO {elbo} = log p(x | z) {log_p} − KL "
        "{kl}. {unused} of the {code} numbers of the code are unused (KL below 0.01).",
        "검증 이미지, 이미지당 나트: ELBO {elbo} = log p(x | z) {log_p} − KL {kl}. "
        "코드 {code}개 가운데 {unused}개는 쓰이지 않습니다(KL 0.01 미만).",
    ),
    "result_gan": (
        "On held-out images: V(D, G) = {v} nats (−log 4 = −1.386 at the balance), mean "
        "D(x) {real}, mean D(G(z)) {generated}. Squared Fréchet distance: generated "
        "images {distance}, real images among themselves {floor}.",
        "검증 이미지에서 V(D, G) = {v} 나트(균형점에서 −log 4 = −1.386), 평균 D(x) "
        "{real}, 평균 D(G(z)) {generated}. 프레셰 거리의 제곱: 생성된 이미지 "
        "{distance}, 실제 이미지끼리 {floor}.",
    ),
    # Headings
    "reconstructions": ("Reconstructions", "재구성"),
    "samples": ("Samples", "생성된 이미지"),
    "curves": ("Training", "학습 과정"),
    "codes": ("The plane of codes", "코드 평면"),
    "pad": ("Decode a code here", "여기서 코드를 디코딩하기"),
    "walk": ("Walk between two images", "두 이미지 사이를 걷기"),
    "doctor": ("The game: a diagnosis", "게임 진단"),
    "kl": ("KL divergence of each number of the code", "코드 각 수의 KL 발산"),
    "lecture": ("The lecture:", "강의:"),
    "about": ("About this run", "이 학습에 대하여"),
    # Rows of pictures
    "original": ("held-out image", "검증 이미지"),
    "noisy": ("corrupted", "노이즈 추가"),
    "fog": ("in fog", "안개 속"),
    "model": ("reconstruction", "재구성"),
    "cleaned": ("cleaned", "복원"),
    "pca": ("PCA", "PCA"),
    "data": ("real images", "실제 데이터"),
    "generated": ("generated images", "생성된 데이터"),
    # Curves
    "curves_alone": (
        "The curves of a training; the page of a run has its pictures and decoder too.",
        "학습 곡선입니다. 학습(run)의 페이지에는 그림과 디코더도 있습니다.",
    ),
    "loss": ("loss", "손실"),
    "loss_squared": ("squared error per image", "이미지당 제곱 오차"),
    "loss_nats": ("loss per image (nats)", "이미지당 손실(나트)"),
    "training_loss": ("training images", "학습 이미지"),
    "validation_loss": ("held-out images", "검증 이미지"),
    "pca_loss": ("PCA", "PCA"),
    "d_real": ("mean D(x)", "평균 D(x)"),
    "d_generated": ("mean D(G(z))", "평균 D(G(z))"),
    "half": ("1/2, the balance", "1/2, 균형점"),
    "probability": ("probability of real", "실제일 확률"),
    "v": ("V(D, G), nats", "V(D, G), 나트"),
    "log4": ("−log 4, the balance", "−log 4, 균형점"),
    "epoch": ("epoch", "에폭"),
    "step": ("step", "스텝"),
    # The pad, the walk and the plane
    "dimension": ("number {n}", "{n}번째 수"),
    "horizontal": ("left to right", "좌우"),
    "vertical": ("up and down", "상하"),
    "pad_help": (
        "Drag in the square, or use the sliders. The page decodes with this run's own "
        "weights; nothing is sent anywhere.",
        "사각형 안을 끌거나 슬라이더를 움직이세요. 이 학습의 가중치로 페이지 안에서 "
        "디코딩하며, 아무것도 전송하지 않습니다.",
    ),
    "from": ("from", "시작"),
    "to": ("to", "끝"),
    "position": ("position", "위치"),
    "plane_help": (
        "Each mark is a held-out image at {axes}. Point at a mark, or use the slider, "
        "to see the image.",
        "점 하나가 검증 이미지 하나입니다({axes}). 점을 가리키거나 슬라이더를 움직이면 "
        "이미지가 보입니다.",
    ),
    "axes_code": ("the two numbers of its code", "코드의 두 수"),
    "axes_pca": (
        "the first two principal components of its code",
        "코드의 처음 두 주성분",
    ),
    "image": ("image", "이미지"),
    "unused": ("unused: KL below 0.01", "쓰이지 않음: KL 0.01 미만"),
    "noscript": (
        "The decoder and the sliders of this page need JavaScript; all pictures and "
        "numbers are shown without it.",
        "디코더와 슬라이더에는 자바스크립트가 필요합니다. 그림과 수치는 없어도 "
        "보입니다.",
    ),
    # About
    "command": ("Command", "명령"),
    "seed": ("Random seed", "난수 시드"),
    "versions": ("Versions", "버전"),
    "weights": ("Weights", "가중치"),
    "weights_words": (
        "{n} numbers, in {file} next to this page",
        "수 {n}개, 이 페이지 옆의 {file}",
    ),
    "check": ("Self-check", "자가 검사"),
    "check_words": (
        "largest difference from NumPy's pictures of 8 codes: ",
        "코드 8개에 대해 NumPy 그림과의 가장 큰 차이: ",
    ),
    "left_out": (
        "The decoder has {size}, and a page is at most {most}: left out.",
        "디코더가 {size}이고 페이지는 {most}까지이므로 넣지 않았습니다.",
    ),
    "dark": ("dark / light", "어둡게 / 밝게"),
    # The doctor
    "d_wins": (
        "D wins: mean D(x) {real}, mean D(G(z)) {generated}. The saturating loss "
        "log(1 − D(G(z))) has a gradient of {share} % of that of −log D(G(z)).",
        "판별 네트워크가 이깁니다: 평균 D(x) {real}, 평균 D(G(z)) {generated}. "
        "포화되는 손실 log(1 − D(G(z)))의 기울기는 −log D(G(z))의 {share} %입니다.",
    ),
    "g_wins": (
        "G wins: D takes generated images for real ({generated}) and real ones for "
        "fake ({real}). D is below chance.",
        "생성 네트워크가 이깁니다: 판별 네트워크가 생성된 이미지를 "
        "실제로({generated}), 실제 이미지를 가짜로({real}) 봅니다.",
    ),
    "balance": (
        "D cannot tell: {real} for real images, {generated} for generated ones; 1/2 is "
        "the balance. The distance of the images is {times} times that of real ones.",
        "판별 네트워크가 구분하지 못합니다: 실제 {real}, 생성 {generated}; 균형점은 "
        "1/2입니다. 이미지의 거리는 실제끼리의 {times}배입니다.",
    ),
    "untrained": (
        "D is near 1/2, but the generated images are far from the data: the distance "
        "is {times} times that of real ones. D has learned nothing yet.",
        "D는 1/2에 가깝지만 생성된 이미지는 데이터와 멉니다: 실제끼리의 {times}배. "
        "판별 네트워크가 아직 배우지 못했습니다.",
    ),
    "collapse": (
        "Collapse: the generated images are alike. Their mean distance is {share} % of "
        "that of real ones.",
        "모드 붕괴: 생성된 이미지가 서로 비슷합니다. 평균 거리가 실제의 "
        "{share} %입니다.",
    ),
    "oscillation": (
        "Oscillation: in the second half V moves by {swing} nats from record to "
        "record, against a trend of {trend}.",
        "진동: 후반부에 V가 기록마다 {swing} 나트씩 움직입니다(추세는 {trend}).",
    ),
    "undecided": (
        "D is ahead, but G learns: mean D(x) {real}, mean D(G(z)) {generated}.",
        "판별 네트워크가 앞서지만 생성 네트워크도 배웁니다: 평균 D(x) {real}, 평균 "
        "D(G(z)) {generated}.",
    ),
    # The lecture
    "says_autoencoder": (
        "an autoencoder compresses its input and reconstructs it.",
        "입력 데이터를 압축한 뒤 재구성합니다.",
    ),
    "says_stacked": (
        "several layers refine the extraction of features.",
        "특징 추출을 더욱 정교하게 수행하기 위해 여러 개의 층으로 구성됩니다.",
    ),
    "says_denoising": (
        "noise is added to the input and removed, for a more exact reconstruction.",
        "입력 데이터에 노이즈를 추가한 뒤 이를 제거해 더 정확한 재구성을 만듭니다.",
    ),
    "says_vae": (
        "it learns the latent distribution of the data, so that new images can be "
        "drawn: a generative model.",
        "입력 데이터의 잠재적 분포를 학습하므로 새로운 데이터를 만들 수 있는 "
        "생성모델입니다.",
    ),
    "says_plane": (
        "an autoencoder turns data of many dimensions into few, to visualise them.",
        "고차원 데이터를 저차원으로 변환하여 시각화합니다.",
    ),
    "says_gan": (
        "a model that generates images that look like real ones, unsupervised.",
        "실제 이미지와 비슷해 보이는 이미지를 생성하는, 비지도 학습 기반 생성모델.",
    ),
    "says_balance": (
        "at the balance D is 1/2: the discriminator cannot tell real from generated.",
        "1/2(균형점): 판별 네트워크가 실제와 생성을 구분할 수 없습니다.",
    ),
}


def text(key: str, language: str, **values: object) -> str:
    """Return words in one language, as plain text.

    A value may be a key's pair of texts, to put words into words.
    """
    k = LANGUAGES.index(language)
    chosen = {n: v[k] if isinstance(v, tuple) else v for n, v in values.items()}
    return WORDS[key][k].format(**chosen)


def pair(key: str, **values: object) -> tuple[str, str]:
    """Return words in both languages."""
    return text(key, "en", **values), text(key, "ko", **values)


def both(key: str, **values: object) -> str:
    """Return words in both languages as HTML; the page shows one of them."""
    return "".join(
        f'<span lang="{language}">{escape(words)}</span>'
        for language, words in zip(LANGUAGES, pair(key, **values), strict=True)
    )
