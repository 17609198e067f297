"""Every model of the benchmark by the name that tables, commands and configuration files use."""

from dataclasses import dataclass
from importlib import import_module

from synergen.contract import DataView, Recommender, Settings, Task
from synergen.errors import unknown_name
from synergen.settings import from_mapping


@dataclass(frozen=True)
class Entry:
    """Where a model and the frozen dataclass of its settings are defined, as `module:name`.

    A model is built as `Model(data, **settings)`; its settings are the fields of that dataclass. Modules are
    imported when a model is asked for: naming the models costs no import, and none can break another.
    """

    model: str
    settings: str


MODELS: dict[str, Entry] = {
    "SynerGen": Entry("synergen.model.synergen:SynerGen", "synergen.model.config:SynerGenConfig"),
    "SASRec": Entry("baselines.recbole_models:SASRec", "baselines.recbole_settings:SASRecSettings"),
    "BERT4Rec": Entry("baselines.recbole_models:BERT4Rec", "baselines.recbole_settings:BERT4RecSettings"),
    "GRU4Rec": Entry("baselines.recbole_models:GRU4Rec", "baselines.recbole_settings:GRU4RecSettings"),
    "HSTU": Entry("baselines.hstu:HSTU", "baselines.hstu:HSTUSettings"),
    "HSTU-large": Entry("baselines.hstu:HSTU", "baselines.hstu:HSTUSettings"),
    "SASRec-HSTU": Entry("baselines.meta_sasrec:MetaSASRec", "baselines.meta_sasrec:MetaSASRecSettings"),
    "HLLM": Entry("baselines.hllm.model:HLLM", "baselines.hllm.settings:HLLMSettings"),
    "HLLM-scratch": Entry("baselines.hllm.model:HLLM", "baselines.hllm.settings:HLLMSettings"),
    "UniSAR": Entry("baselines.unisar:UniSAR", "baselines.unisar:UniSARSettings"),
    "USER": Entry("baselines.user:USER", "baselines.user:USERSettings"),
    "UnifiedSSR": Entry("baselines.unified_ssr:UnifiedSSR", "baselines.unified_ssr:UnifiedSSRSettings"),
    "SESRec": Entry("baselines.sesrec:SESRec", "baselines.sesrec:SESRecSettings"),
    "TEM": Entry("baselines.tem:TEM", "baselines.tem:TEMSettings"),
    "QEM": Entry("baselines.tem:TEM", "baselines.tem:TEMSettings"),
    "ZAM": Entry("baselines.tem:TEM", "baselines.tem:TEMSettings"),
    "AEM": Entry("baselines.tem:TEM", "baselines.tem:TEMSettings"),
    "CoPPS": Entry("baselines.copps:CoPPS", "baselines.copps:CoPPSSettings"),
    "ItemKNN": Entry("baselines.item_knn:ItemKNN", "baselines.item_knn:ItemKNNSettings"),
    "EASE": Entry("baselines.ease:EASE", "baselines.ease:EASESettings"),
    "Popularity": Entry("baselines.popularity:Popularity", "baselines.popularity:PopularitySettings"),
    "BM25": Entry("baselines.bm25:BM25", "baselines.bm25:BM25Settings"),
    "Dense": Entry("baselines.dense:Dense", "baselines.dense:DenseSettings"),
    "RRF": Entry("baselines.rank_fusion:RRF", "baselines.rank_fusion:RRFSettings"),
}


def model_class(name: str) -> type[Recommender]:
    """The class of a model.

    Raises:
        UserError: no model has this name.
    """
    return _load(_entry(name).model)


def settings_type(name: str) -> type:
    """The frozen dataclass of a model's settings, with their defaults.

    Raises:
        UserError: no model has this name.
    """
    return _load(_entry(name).settings)


def tasks_of(name: str) -> frozenset[Task]:
    """The tasks that a model serves.

    Raises:
        UserError: no model has this name.
    """
    return model_class(name).tasks


def build(name: str, data: DataView, settings: Settings) -> Recommender:
    """A new model; its initial weights depend on torch's random state only.

    Raises:
        UserError: no model has this name, it has no such setting, or a value is of the wrong type or range.
    """
    from_mapping(settings_type(name), settings, f"settings of {name}")
    return model_class(name)(data, **settings)


def _entry(name: str) -> Entry:
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    return MODELS[name]


def _load(place: str) -> type:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
