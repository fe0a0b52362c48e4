"""Chat templates and tokenizers of other people: prompts that the model goes on from, alike each time, or one line."""

import dataclasses
from pathlib import Path

import pytest
import tokenizers
import transformers

from harness.config.task import DataSettings
from harness.errors import UsageError
from harness.model.policy import Policy, load_policy
from harness.tasks.math.prompts import prompts_of
from harness.tasks.math.questions import Question
from tests.harness.model.networks import change_json, chat_tokenizer, save_network
from tests.harness.tasks import math_material as material

PROMPT = "What is 1 + 1?"
DATED = "<|im_start|>system\nToday: {{ strftime_now('%d %B %Y') }}<|im_end|>\n" + material.TEMPLATE


def test_a_template_prints_the_recorded_day(tmp_path: Path) -> None:
    policy = load_policy(save_network(tmp_path, tokenizer=chat_tokenizer(DATED)))
    asked = [Question(PROMPT, "2")]
    for day, printed in (("2026-01-01", "01 January 2026"), ("2024-07-26", "26 July 2024")):
        (problem,) = prompts_of(asked, DataSettings(prompt_date=day), policy)[0].values()
        assert f"Today: {printed}<|im_end|>" in problem.prompt


@pytest.mark.parametrize("around", ["<s> $A </s>", "<s> <s> $A", "$A </s>", "$A </s> </s>", "<s> $A", None])
@pytest.mark.parametrize("template", ["chat", "plain"])
def test_a_prompt_ends_where_the_model_goes_on(around: str | None, template: str, tmp_path: Path) -> None:
    policy = load_policy(save_network(tmp_path, tokenizer=chat_tokenizer(around=around)))
    settings = DataSettings(prompt_template=template)
    (problem,) = prompts_of([Question(PROMPT, "2")], settings, policy)[0].values()
    tokens = policy.encode(problem.prompt)
    assert policy.tokenizer.decode(tokens) == "<s>" * (around or "").count("<s>") + problem.prompt
    assert not policy.end_ids & set(tokens)


REFUSED = {
    "closes": (material.TEMPLATE.replace("{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}", "</s>\n")),
    "no system role": "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system role') }}{% endif %}",
    "broken": "{% for message in messages %}{{ message.content }}",
    "undefined": "{{ messages[0].content.missing.more }}",
    "draws": "{{ range(1000) | list | random }}" + material.TEMPLATE,
    "drops": "{% for m in messages if m.role == 'user' %}<|im_start|>user\n{{ m.content }}{% endfor %}",
}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("closes", "ends with an end token"),
        ("no system role", "turns of system, user, got one that does not .*No system role"),
        ("broken", "renders turns of system, user"),
        ("undefined", "renders turns of system, user"),
        ("draws", "expected the same prompt each time"),
        ("drops", "expected a different prompt for each question"),
    ],
)
def test_a_template_that_does_not_make_prompts_is_one_line(name: str, says: str, tmp_path: Path) -> None:
    policy = load_policy(save_network(tmp_path, tokenizer=chat_tokenizer(REFUSED[name])))
    asked = [Question(PROMPT, "2", (("system", base),)) for base in ("Use base 10.", "Use base 8.")]
    with pytest.raises(UsageError, match=f"^--prompt_template chat: .*{says}") as raised:
        prompts_of(asked, DataSettings(), policy)
    assert "\n" not in str(raised.value)


def with_templates(folder: Path, template: object) -> Policy:
    """A network whose tokenizer's configuration holds the template or templates, as files of older versions do."""
    save_network(folder, tokenizer=chat_tokenizer())
    (folder / "chat_template.jinja").unlink()
    change_json(folder / "tokenizer_config.json", chat_template=template)
    return load_policy(str(folder))


def test_of_several_templates_the_default_is_taken_and_line_ends_do_not_matter(tmp_path: Path) -> None:
    listed = [{"name": name, "template": name + material.TEMPLATE} for name in ("tool_use", "default", "rag")]
    for name, template in (("several", listed), ("windows", "default" + material.TEMPLATE.replace("\n", "\r\n"))):
        policy = with_templates(tmp_path / name, template)
        assert "\r" not in str(policy.tokenizer.chat_template) or name == "windows"
        (problem,) = prompts_of([Question(PROMPT, "2")], DataSettings(), policy)[0].values()
        assert problem.prompt.startswith("default<|im_start|>")
        assert "\r" not in problem.prompt
    policy = with_templates(tmp_path / "none", [one for one in listed if one["name"] != "default"])
    with pytest.raises(UsageError, match=r"^--prompt_template chat: .*multiple chat templates") as raised:
        prompts_of([Question(PROMPT, "2")], DataSettings(), policy)
    assert "\n" not in str(raised.value)


def test_tokens_beyond_the_embedding_are_refused(tmp_path: Path) -> None:
    late = chat_tokenizer("<|late|>" + material.TEMPLATE, extra=("<|late|>",))
    policy = load_policy(save_network(tmp_path / "less", tokenizer=late, more_rows=-1))
    with pytest.raises(
        UsageError, match=rf"^--model: expected tokens below {len(late) - 1}.*got {len(late) - 1} \('<.late.>'\)"
    ):
        prompts_of([Question(PROMPT, "2")], DataSettings(), policy)
    padded = load_policy(save_network(tmp_path / "more", tokenizer=late, more_rows=9))
    assert len(prompts_of([Question(PROMPT, "2")], DataSettings(), padded)[0]) == 1


def test_a_token_that_opens_the_answer_may_be_an_end_token(tmp_path: Path) -> None:
    """As Phi-3 has it: what opens the assistant's turn also ends it."""
    opening = "{% if add_generation_prompt %}<|im_start|>\n{% endif %}"
    template = "{% for message in messages %}{{ message.content }}</s>\n{% endfor %}" + opening
    save_network(tmp_path, tokenizer=chat_tokenizer(template))
    opens = chat_tokenizer().convert_tokens_to_ids("<|im_start|>")
    change_json(tmp_path / "generation_config.json", eos_token_id=[4, opens])
    policy = load_policy(str(tmp_path))
    assert policy.end_ids == {4, opens}
    (problem,) = prompts_of([Question(PROMPT, "2")], DataSettings(), policy)[0].values()
    assert problem.prompt.endswith("</s>\n<|im_start|>\n")


@pytest.mark.parametrize("listed", [-1, [0, 423], None])
def test_end_tokens_that_the_tokenizer_does_not_know_do_no_harm(listed: object, tmp_path: Path) -> None:
    model = save_network(tmp_path, more_rows=64)
    change_json(tmp_path / "generation_config.json", eos_token_id=listed)
    policy = load_policy(model)
    assert material.tokenizer().eos_token_id in policy.end_ids
    assert len(prompts_of([Question(PROMPT, "2")], DataSettings(), policy)[0]) == 1


def test_tokens_behind_a_text_are_told_from_its_own(tmp_path: Path) -> None:
    """Whatever the vocabulary lacks, and where one token begins and ends texts."""
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({"</s>": 0, "1": 1, "2": 2, "+": 3}, unk_token="</s>"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex("."), "isolated")
    backend.post_processor = tokenizers.processors.TemplateProcessing("</s> $A </s>", special_tokens=[("</s>", 0)])
    own = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="</s>", eos_token="</s>")
    policy = dataclasses.replace(load_policy(save_network(tmp_path)), tokenizer=own)
    assert [policy.encode(text) for text in ("1+2", "a", "aa+")] == [[0, 1, 3, 2], [0, 0], [0, 0, 0, 3]]
