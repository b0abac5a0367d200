"""Entries of a user's files: what is wrong with one is said on one screen, with file and line."""

import re
import sys
from importlib.metadata import EntryPoint

import pytest
import torch

from workflow_scripts import fingerprint, train
from workflow_scripts.doors import door as doors
from workflow_scripts.doors.backbone import BACKBONES
from workflow_scripts.doors.method import METHODS, Method
from workflow_scripts.doors.segmenter import SEGMENTERS
from workflow_scripts.doors.usage import Use, code_of, plug_ins
from workflow_scripts.errors import InputError
from workflow_scripts.planning.configuration import read_configuration
from workflow_scripts.planning.workflow import Workflow

METHOD = """
from typing import ClassVar

from pydantic import Field

from workflow_scripts.doors.method import InferSettings, Method, TrainSettings


class Train(TrainSettings):
    \"\"\"Settings.\"\"\"

    depth: int = Field(3, ge=1, description="how deep")


class Mine(Method):
    \"\"\"A method.\"\"\"

    name: ClassVar[str] = "mine"
    Train = Train

    def build(self, backbone, classes):
        pass

    def loss(self, network, batch, counts):
        pass

    def activations(self, network, image, infer, device):
        pass
"""


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """What a test plugs in is gone after it."""
    monkeypatch.setattr(doors, "_loaded", {})
    for each in doors._doors:
        monkeypatch.setattr(each, "_plugged", {})
    before = set(sys.modules)
    yield
    doors.installed_entries.cache_clear()
    for name in set(sys.modules) - before:
        if name.startswith("plugin_"):
            del sys.modules[name]


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Writes my_method.py into the working folder."""
    monkeypatch.chdir(tmp_path)

    def write(text, name="my_method.py"):
        (tmp_path / name).write_text(text)
        return name

    return write


def configured(*plugins, **values):
    return Workflow({"dataset": {"kind": "demo"}, "plugins": [*plugins], **values})


def test_a_method_of_a_file_is_one_like_any_other(plugin):
    file = plugin(METHOD)
    plan = configured(file, methods=["mine", "amn"], train_mine={"depth": 5}, threads={"mine": 3},
                      refine_seeds={"mine": {"foreground_threshold": 0.7}},
                      variants={"deeper": {"method": "mine", "depth": 9}})  # fmt: skip
    settings = plan.settings
    assert settings.training("mine").depth == 5 and settings.training("deeper").depth == 9
    assert settings.training("deeper").backbone == settings.training("mine").backbone
    assert settings.seed_settings("deeper").foreground_threshold == 0.7
    wildcards = type("W", (), {"method": "mine", "trial": "0"})
    assert plan.training_threads(wildcards) == 3
    flags = plan.method_flags(wildcards)
    assert "--depth 5" in flags and flags.endswith(f"--plugins {file}")
    assert file in plan.method_code("train")(wildcards)
    others = type("W", (), {"method": "amn", "trial": "0"})
    assert "plugins" not in plan.method_flags(others)
    assert file not in plan.method_code("train")(others)


def test_an_edit_of_the_file_is_another_code(plugin):
    file = plugin(METHOD)
    doors.load_plugins([file])
    use = [Use(METHODS, "mine")]
    before = code_of("train", use)
    plugin(METHOD.replace('"""A method."""', '"""The method."""'))
    fingerprint._read.cache_clear()
    assert code_of("train", use) == before
    plugin(METHOD.replace("        pass", "        return 0"))
    fingerprint._read.cache_clear()
    after = code_of("train", use)
    assert {name for name in after if after[name] != before.get(name)} == {file}
    assert plug_ins(use) == [doors.Path(file)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("import ClassVar", "import ClassVarr"),
         r"plugins: my_method\.py: cannot be imported; .*my_method\.py:2: ImportError: cannot import name"),
        (("def build(self", "def build(self self"), r"my_method\.py:2\d: invalid syntax"),
        (("def loss(", "def losses("),
         r"my_method\.py:15: class Mine lacks `loss`, which a Method must have: def loss\(self, network"),
        (('    name: ClassVar[str] = "mine"\n', ""), r"my_method\.py:15: class Mine lacks `name`"),
        (('"mine"', '"amn"'), r"my_method\.py:15: the name `amn` is taken by another method"),
        (("(Method)", ""), r"my_method\.py: defines no entry; expected a class derived from one of"),
        (("Field(3,", "Field(0,"), r"method `mine`: the defaults of its settings are not valid"),
        (("class Train(TrainSettings)", "class Train(InferSettings)"),
         r"my_method\.py:9: class Train lacks `backbone`; expected a class derived from `TrainSettings`"),
        (("from pydantic", "raise RuntimeError('no licence')\nfrom pydantic"),
         r"my_method\.py:4: RuntimeError: no licence"),
    ],
)  # fmt: skip
def test_what_is_wrong_stands_on_one_screen(plugin, change, message):
    old, new = change
    assert old in METHOD
    file = plugin(METHOD.replace(old, new))
    with pytest.raises(InputError) as error:
        configured(file, methods=["mine"])
    assert re.search(message, str(error.value)), str(error.value)
    assert len(str(error.value).splitlines()) <= 6 and "Traceback" not in str(error.value)


def test_files_that_cannot_be_plugged_in(plugin, tmp_path):
    with pytest.raises(InputError, match=r"plugins: gone\.py: no such file"):
        configured("gone.py")
    plugin(METHOD, "my-method.py")
    with pytest.raises(InputError, match="called like a module"):
        configured("my-method.py")
    (tmp_path / "other").mkdir()
    plugin(METHOD)
    plugin(METHOD, "other/my_method.py")
    with pytest.raises(InputError, match=r"other/my_method\.py: my_method\.py has the same name"):
        configured("my_method.py", "other/my_method.py")


def test_settings_of_a_plug_in_are_validated_by_name(plugin):
    file = plugin(METHOD)
    with pytest.raises(InputError, match=r"train_mine\.depht: unknown key; did you mean `depth`?"):
        configured(file, methods=["mine"], train_mine={"depht": 1})
    with pytest.raises(InputError, match=r"methods: `mone` is none of .*mine"):
        configured(file, methods=["mone"])


def test_a_stage_is_told_of_a_plug_in_and_of_what_is_wrong_with_it(plugin, capsys):
    file = plugin(METHOD)
    assert train.main(["mine", "--index", "index.csv"]) == 2
    assert "there is no method `mine`; " in capsys.readouterr().err
    with pytest.raises(SystemExit):
        train.main(["mine", "--plugins", file, "--help"])
    assert "--depth N" in capsys.readouterr().out
    assert train.main(["mine", f"--plugins={file}"]) == 2
    assert "index: missing" in capsys.readouterr().err
    assert train.main(["mine", "--plugins", "gone.py"]) == 2
    assert "gone.py: no such file" in capsys.readouterr().err


def test_entries_of_an_installed_package(monkeypatch, plugin, tmp_path):
    plugin(METHOD, "installed_method.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    point = EntryPoint("mine", "installed_method", "wsss.methods")
    monkeypatch.setattr(
        doors, "entry_points", lambda group: [point] if group == METHODS.group else []
    )
    doors.installed_entries.cache_clear()
    assert "mine" in METHODS.names()
    assert METHODS.get("mine").name == "mine"
    assert configured(methods=["mine"]).settings.entry("mine").__module__ == "installed_method"
    assert str(tmp_path / "installed_method.py") in code_of("train", [Use(METHODS, "mine")])
    assert plug_ins([Use(METHODS, "mine")]) == []


def test_a_broken_package_matters_where_it_is_asked_for(monkeypatch, plugin, tmp_path, caplog):
    plugin("raise RuntimeError('no licence')", "broken_backbone.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    point = EntryPoint("theirs", "broken_backbone", "wsss.backbones")
    monkeypatch.setattr(
        doors, "entry_points", lambda group: [point] if group == BACKBONES.group else []
    )
    doors.installed_entries.cache_clear()
    assert BACKBONES.get("resnet50").__name__ == "ResNet"
    assert "passed over" in caplog.text and "no licence" in caplog.text
    with pytest.raises(InputError, match=r"broken_backbone\.py:1: RuntimeError: no licence"):
        BACKBONES.get("theirs")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (torch.ones(2), r"a tensor of shape \[2\]"),
        (1.5, "1.5"),
        (None, "None"),
    ],
)
def test_a_loss_that_is_no_number_is_named(plugin, given, told):
    file = plugin(METHOD)
    doors.load_plugins([file])
    entry = METHODS.get("mine")
    method = entry(entry.Train())
    method.loss = lambda *_: given
    with pytest.raises(
        InputError, match=rf"my_method\.py:15: `loss` gives {told}; expected one number"
    ):
        train.MethodTask(method, torch.nn.Identity()).loss(torch.nn.Identity(), {}, torch.ones(1))


def test_a_module_is_called_as_its_entry_is():
    for each in doors._doors:
        for name, entry in zip(each.built_in(), each.every(), strict=True):
            assert each is BACKBONES or each.names_of(entry) == (name,), name
            assert entry.__doc__ and sys.modules[entry.__module__].__doc__
    with pytest.raises(
        InputError, match="there is no segmenter `deeplab`; did you mean `deeplab_v2`"
    ):
        SEGMENTERS.get("deeplab")


def test_nothing_but_its_file_names_a_method():
    """Settings by default, and what the papers' checkpoints hold, are the exceptions."""
    allowed = {
        "methods",
        "planning/configuration.py",
        "import_checkpoint.py",
        "models/weights.py",
    }
    named = re.compile(r"""["'](amn|recam|train_amn|infer_amn|train_cam|infer_cam)["']""")
    package = doors.ROOT / doors.PACKAGE
    found = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if named.search(path.read_text(encoding="utf-8"))
    }
    assert {
        name for name in found if name not in allowed and name.split("/")[0] not in allowed
    } == set()


def test_a_method_lacks_nothing_that_its_protocol_asks_for():
    with pytest.raises(InputError, match=r"lacks `activations` \(and build, loss\)"):
        doors.check(type("Empty", (Method,), {"__module__": __name__}), Method)


def test_configurations_without_plug_ins_load_none():
    read_configuration({"dataset": {"kind": "demo"}}, "here")
    assert doors._loaded == {}


def test_names_and_settings_that_are_taken(plugin):
    file = plugin(METHOD.replace('"mine"', '"segmentation"'))
    with pytest.raises(
        InputError, match=r"my_method\.py:15: a method cannot be called `segmentation`"
    ):
        configured(file)
    doors._loaded.clear()
    with pytest.raises(InputError, match=r"other\.py:9: `seed` cannot be a setting"):
        configured(plugin(METHOD.replace("depth: int", "seed: int"), "other.py"))
    backbone = """
from typing import ClassVar
from workflow_scripts.doors.backbone import BackboneSettings


class Mine(BackboneSettings):
    names: ClassVar[tuple[str, ...]] = ("resnet50",)
    name: str = "resnet50"

    def build(self):
        pass
"""
    with pytest.raises(InputError, match=r"bb\.py:6: the name `resnet50` is taken by ResNet"):
        configured(plugin(backbone, "bb.py"))
    doors._loaded.clear()
    lacking = backbone.replace("resnet50", "my_net").replace('    name: str = "my_net"\n', "")
    with pytest.raises(InputError, match=r"bb2\.py:6: class Mine lacks a field `name` of its own"):
        configured(plugin(lacking, "bb2.py"))


def test_one_file_by_two_spellings_is_one_plug_in(plugin, tmp_path):
    file = plugin(METHOD)
    plan = configured(file, str(tmp_path / file), methods=["mine"])
    assert plan.settings.entry("mine").name == "mine"


def test_no_setting_of_a_method_is_called_as_a_flag_or_a_part_of_descriptions():
    from workflow_scripts import infer
    from workflow_scripts.doors.method import TAKEN_FIELDS

    assert {*train.Files.model_fields, *infer.Files.model_fields} <= TAKEN_FIELDS


def test_lists_that_are_none_are_named(plugin):
    for values, message in (
        (
            {"plugins": "my_method.py"},
            r"plugins: expected a list of files: `plugins: \[my_method\.py\]`",
        ),
        ({"methods": 3}, "methods: Input should be"),
        ({"variants": ["a"]}, "variants: Input should be"),
        ({3: 4}, "problem"),
    ):
        with pytest.raises(InputError, match=message):
            read_configuration({"dataset": {"kind": "demo"}, **values}, "here")
