import dataclasses
import math
import re
from pathlib import Path

import pytest
import torch

from mambaout import widgets
from mambaout.training import RECIPES, optim
from mambaout.widgets import RecipeExplorer

FORMULAS = Path(widgets.__file__).with_name("schedule.js").read_text("utf-8")


@pytest.fixture
def figure(training_recipes):
    return lambda **choice: RecipeExplorer(**training_recipes, **choice)


def rates(recipe, images):
    """Of every step, by the library, as the engine calls it."""
    per_epoch = optim.batches_per_epoch(images, recipe.batch_size)
    steps, warmup = recipe.epochs * per_epoch, round(recipe.warmup_epochs * per_epoch)
    start, end = (min(1.0, lr / recipe.peak_lr) for lr in (recipe.warmup_lr, recipe.min_lr))
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=recipe.peak_lr)
    share = optim.warmup_cosine(optimizer, steps, warmup, start=start, end=end).lr_lambdas[0]
    return [recipe.peak_lr * share(t) for t in range(steps + recipe.cooldown_epochs * per_epoch)]


def tiles(page):
    return [text.replace("\u00a0", " ") for text in page.locator(".mo-totals dd b").all_inner_texts()]


# Python


def test_first_choice(figure):
    one = figure(choice="fashion_mnist")
    assert (one.recipe, one.batch_size, one.epochs, one.warmup_epochs) == ("fashion_mnist", 128, 40, 2)
    assert (one.speed, one.devices) == ("slow", 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch_size": 100}, "Recipe fashion_mnist: 'batch_size' must be a power of two; got 100"),
        ({"images": 100}, "Recipe fashion_mnist: 'images' must be at least one batch; got 100"),
        ({"warmup_epochs": 40}, "Recipe fashion_mnist: 'warmup_epochs' must be less than 'epochs'"),
        ({"lr": 0}, "'lr' must be a positive number; got 0"),
        ({"label": "imagenet"}, "'label' must be unique"),
    ],
)
def test_a_wrong_recipe_names_itself_and_the_key(training_recipes, change, words):
    training_recipes["recipes"][1].update(change)
    with pytest.raises(ValueError, match=re.escape(words)):
        RecipeExplorer(**training_recipes)


def test_an_unknown_choice(figure):
    with pytest.raises(ValueError, match="Unknown recipe 'image_net'; did you mean one of imagenet"):
        figure(choice="image_net")


# The formulas


@pytest.mark.parametrize(
    ("name", "images", "change"),
    [
        ("fashion_mnist", 60_000, {}),
        ("fashion_mnist", 3000, {"warmup_epochs": 0, "epochs": 3}),
        ("fashion_mnist", 640, {"warmup_epochs": 4, "epochs": 5, "batch_size": 512}),
        ("imagenet", 60_000, {"epochs": 30}),
    ],
)
def test_the_figures_plan_is_the_engines(browser, name, images, change):
    recipe = dataclasses.replace(RECIPES[name], **change)
    expected = rates(recipe, images)
    page = browser.new_page()
    script = (
        "([source, recipe]) => new Function('recipe', source + `; const plan = trainingPlan(recipe);"
        "return [[...Array(plan.steps).keys()].map(plan.rate), plan.left, plan.peak, plan.seen];`)(recipe)"
    )
    found, left, peak, seen = page.evaluate(script, [FORMULAS, dataclasses.asdict(recipe) | {"images": images}])
    page.close()
    assert found == pytest.approx(expected, rel=1e-9)
    assert left == pytest.approx(math.exp(-recipe.weight_decay * sum(expected)))
    assert (peak, seen) == (pytest.approx(recipe.peak_lr), len(expected) * recipe.batch_size)


# Browser


def test_the_papers_recipe(show, figure):
    page = show(figure())
    assert tiles(page) == ["0.004", "96,720", "396.2 M", "459 days"]
    assert "would leave less than 0.1\u00a0% of a weight" in page.get_by_role("status").inner_text()
    page.get_by_label("Speed").select_option("fast")
    page.get_by_label("Devices").select_option("8")
    assert tiles(page)[3] == "6.9 hours"


def test_the_rate_follows_the_batch(show, figure):
    page = show(figure())
    page.get_by_label("Batch").select_option("1024")
    assert tiles(page)[:3] == ["0.001", f"{310 * (1_281_167 // 1024):,}", "397.1 M"]


def test_a_recipe_brings_its_settings(show, figure):
    page = show(figure())
    page.get_by_label("Recipe", exact=True).select_option("fashion_mnist")
    assert tiles(page)[:3] == ["0.002", "18,720", "2.4 M"]
    assert page.get_by_role("slider", name="Epochs", exact=True).input_value() == "40"
    page.locator("summary").click()
    expected = rates(RECIPES["fashion_mnist"], 60_000)
    cells = page.locator("tbody tr").evaluate_all("all => all.map(row => [...row.cells].map(c => c.textContent))")
    for epoch, shown in cells:
        step = min(int(epoch) * 468, len(expected) - 1)
        assert float(shown.replace("\u2212", "-")) == pytest.approx(expected[step], rel=5e-3)
    assert [epoch for epoch, _ in cells] == ["0", "2", "10", "20", "30", "40"]


def test_warm_up_ends_before_the_training(show, figure):
    page = show(figure())
    epochs, warmup = (page.get_by_role("slider", name=name, exact=True) for name in ("Epochs", "Warm-up (epochs)"))
    epochs.evaluate("one => { one.value = 5; one.dispatchEvent(new Event('input')); }")
    assert page.evaluate("[models[0].get('epochs'), models[0].get('warmup_epochs')]") == [5, 4]
    warmup.focus()
    page.keyboard.press("Home")
    assert page.evaluate("models[0].get('warmup_epochs')") == 0
    assert warmup.get_attribute("aria-valuetext") == "0"
    assert page.locator(".mo-warm").get_attribute("width") == "0"


def test_the_curve_peaks_where_the_warm_up_ends(show, figure):
    page = show(figure())
    points = [
        [float(number) for number in pair.split(",")]
        for pair in page.locator(".mo-line").get_attribute("points").split()
    ]
    top = min(points, key=lambda point: point[1])
    warm = page.locator(".mo-warm")
    edge = float(warm.get_attribute("x")) + float(warm.get_attribute("width"))
    assert top[0] == pytest.approx(edge, abs=0.5)


def test_follows_the_model_and_cleans_up(show, figure):
    page = show(figure())
    page.evaluate("models[0].set('epochs', 100)")
    assert tiles(page)[1] == f"{110 * 312:,}"
    page.evaluate("cleanups[0]()")
    assert page.locator(".mo").count() == 0
    assert page.evaluate("Object.values(models[0].heard).flat().length") == 0
