"""Evaluation against counting by hand."""

import pytest
import torch
from tiny import tiny_data
from torch import nn

import mambaout
from mambaout.cli import main
from mambaout.models.weights import to_timm
from mambaout.training import Data, Tensors, evaluate


class Lookup(nn.Module):
    """Answers with logits that the images carry."""

    def __init__(self):
        super().__init__()
        self.num_classes, self.pretrained_cfg = 7, {"mean": (0.0,), "std": (1.0,)}

    def forward(self, x):
        return x[:, 0, 0, :7]


def test_counts():
    generator = torch.Generator().manual_seed(0)
    images = torch.stack([torch.randperm(250, generator=generator)[:8] for _ in range(500)]).byte()[:, None, None]
    labels = torch.randint(6, (500,), generator=generator)  # none of the seventh class
    data = Tensors(images, labels, images, labels, list("abcdefg"))
    model = Lookup().train()
    report = evaluate(model, data, device="cpu", batch_size=64)
    ranks = images[:, 0, 0, :7].int().argsort(dim=1, descending=True)
    assert report.images == 500 and model.training
    assert report.top1 == pytest.approx((ranks[:, 0] == labels).float().mean().item())
    assert report.top5 == pytest.approx((ranks[:, :5] == labels[:, None]).any(1).float().mean().item())
    for i in range(7):
        of_class = labels == i
        for j in range(7):
            assert report.confusion[i, j] == (ranks[of_class, 0] == j).sum()
    assert report.per_class[2] == (ranks[labels == 2, 0] == 2).float().mean() and report.per_class[6].isnan()
    loss = nn.functional.cross_entropy(images[:, 0, 0, :7].float() / 255, labels)
    assert report.loss == pytest.approx(loss.item(), rel=1e-5)
    text = str(report)
    assert text.startswith("500 images: top-1") and "taken for" in text and "\n  g" not in text
    worst = text.splitlines()[1].split()[0]
    assert report.per_class["abcdefg".index(worst)] == report.per_class[:6].min()


def test_any_weights_of_an_architecture(tmp_path, photos):
    torch.manual_seed(0)
    model = mambaout.create_model("mambaout_atto64")
    torch.save(model.state_dict(), tmp_path / "w.pth")
    with pytest.raises(ValueError, match="knows 10 classes, the data have 2"):
        evaluate(tmp_path / "w.pth", Data("folder", photos), architecture="mambaout_atto64", workers=0)
    two = mambaout.create_model("mambaout_atto64", num_classes=2)
    report = evaluate(two, Data("folder", photos, 40), device="cpu", workers=0)
    assert report.images == 10
    torch.save(to_timm(two.state_dict()), tmp_path / "two.pth")  # another number of classes than the architecture's
    again = evaluate(
        tmp_path / "two.pth", Data("folder", photos, 40), architecture="mambaout_atto64", device="cpu", workers=0
    )
    assert again.loss == pytest.approx(report.loss)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("mambaout_tinny", "no such file or folder. Did you mean mambaout_tiny"),
        (".", "neither weights.safetensors nor a checkpoint"),
        ("text.safetensors", "cannot be read as weights"),
    ],
)
def test_what_is_no_model(what, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.safetensors").write_text("text")
    with pytest.raises(ValueError, match=message):
        evaluate(what, tiny_data())


def test_a_model_alone_needs_data():
    with pytest.raises(ValueError, match="say what to evaluate on"):
        evaluate(Lookup())


def test_a_model_that_does_not_say_how_many_classes_it_knows():
    with pytest.raises(ValueError, match="set Flatten's attribute num_classes to the number of its outputs"):
        evaluate(nn.Flatten(), tiny_data())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "fashion_mnist", "--folder", "photos"], "--folder is for images of your own, but --data is"),
        (["--image-size", "32"], "--image-size goes with --data or --folder"),
    ],
)
def test_settings_that_do_not_go_together(arguments, message, capsys):
    assert main(["evaluate", "mambaout_fashion", *arguments]) == 1
    assert message in capsys.readouterr().err
