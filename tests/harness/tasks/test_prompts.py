"""Prompts in other people's chat templates and tokens: the published ones, alike each time, or refused in one line."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers

from harness.config.task import DataSettings
from harness.errors import UsageError
from harness.model.policy import Policy, load_policy
from harness.tasks.math.task import math_prompts
from harness.tasks.prompts import rendered
from harness.tasks.task import Question
from tests.harness.model.networks import change_json, chat_tokenizer, save_network
from tests.harness.tasks import math_material as material

ASKED = Question("What is 2+3?", "5")
# the FIPO paper's prompt, written out: DAPO's words in Qwen2.5's template
PUBLISHED = """<|im_start|>system
You are a helpful assistant.<|im_end|>
<|im_start|>user
Solve the following math problem step by step. The last line of your response should be of the form Answer: $Answer (without quotes) where $Answer is the answer to the problem.

What is 2+3?

Remember to put your answer on its own line after "Answer:".<|im_end|>
<|im_start|>assistant
"""  # noqa: E501
BOXED = "What is 2+3?\n\nPlease reason step by step, and put your final answer within \\boxed{}."


@pytest.fixture
def policy() -> Policy:
    return material.answering_policy()


def text(policy: Policy, question: Question = ASKED, **settings: Any) -> str:
    """The prompt of one question."""
    (problem,) = math_prompts([question], DataSettings(**settings), policy)
    assert problem.answer == question.answer
    return problem.prompt


def refusal(policy: Policy, *questions: Question) -> str:
    """The line that refuses a template."""
    with pytest.raises(UsageError) as raised:
        math_prompts(questions or [ASKED], DataSettings(), policy)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_the_published_prompt(policy: Policy) -> None:
    assert text(policy) == PUBLISHED
    tokens = policy.encode(PUBLISHED)
    assert tokens[0] == policy.tokenizer.convert_tokens_to_ids("<|im_start|>")  # special tokens are read as such
    assert policy.tokenizer.decode(tokens) == PUBLISHED
    assert policy.tokenizer.convert_ids_to_tokens(sorted(policy.end_ids)) == ["<|endoftext|>", "<|im_end|>"]
    for end in policy.end_ids:
        assert policy.decode([*policy.encode("Answer: 5"), end]) == "Answer: 5"


def test_a_base_models_prompt_is_the_text_alone_behind_a_data_sets_own_system_message(policy: Policy) -> None:
    assert text(policy, prompt_template="plain", answer_format="boxed") == BOXED
    asked = dataclasses.replace(ASKED, before=(("system", "Be brief."),))
    assert text(policy, asked).startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n")
    assert text(policy, asked, prompt_template="plain").startswith("Be brief.\n\nSolve the following")


def test_prompts_over_the_limit_are_counted_and_left_out_never_cut(policy: Policy) -> None:
    long = Question("What is " + "1 + " * 100 + "1?", "101")
    lengths = [len(policy.encode(text(policy, one))) for one in (ASKED, long)]
    for limit, kept in ((lengths[0] - 1, 0), (lengths[0], 1), (lengths[1] - 1, 1), (lengths[1], 2)):
        found = math_prompts([ASKED, long], DataSettings(max_prompt_tokens=limit), policy)
        assert [problem.answer for problem in found] == ["5", "101"][:kept]


def test_a_tokenizer_without_a_template_is_refused(random_policy: Policy) -> None:
    with pytest.raises(UsageError, match="--prompt_template plain"):
        rendered([("user", "What?")], DataSettings(), random_policy.tokenizer)


def test_a_template_prints_the_recorded_day(tmp_path: Path) -> None:
    dated = "<|im_start|>system\nToday: {{ strftime_now('%d %B %Y') }}<|im_end|>\n" + material.TEMPLATE
    policy = load_policy(save_network(tmp_path, tokenizer=chat_tokenizer(dated)))
    for day, printed in (("2026-01-01", "01 January 2026"), ("2024-07-26", "26 July 2024")):
        assert f"Today: {printed}<|im_end|>" in text(policy, prompt_date=day)


@pytest.mark.parametrize("around", ["<s> $A </s>", "<s> <s> $A", "$A </s>", "$A </s> </s>", "<s> $A", None])
def test_a_prompt_ends_where_the_model_goes_on(around: str | None, tmp_path: Path) -> None:
    policy = load_policy(save_network(tmp_path, tokenizer=chat_tokenizer(around=around)))
    for template in ("chat", "plain"):
        prompt = text(policy, prompt_template=template)
        tokens = policy.encode(prompt)
        assert policy.tokenizer.decode(tokens) == "<s>" * (around or "").count("<s>") + prompt
        assert not policy.end_ids & set(tokens)


@pytest.mark.parametrize("adds", [True, False])
def test_a_first_token_that_template_and_tokenizer_both_put_stands_once(policy: Policy, adds: bool) -> None:
    vocabulary = {"<s>": 0, "</s>": 1, "[INST]": 2, "What": 3, "?": 4}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="?"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    if adds:
        backend.post_processor = tokenizers.processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    template = "<s>{% for message in messages %}[INST]{{ message['content'] }}{% endfor %}"
    ends = {"bos_token": "<s>", "eos_token": "</s>", "additional_special_tokens": ["[INST]"]}
    own = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **ends, chat_template=template)
    prompt = rendered([("user", "What")], DataSettings(), own)
    assert dataclasses.replace(policy, tokenizer=own).encode(prompt) == [0, 2, 3]


CLOSED = material.TEMPLATE.replace("{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}", "</s>\n")
REFUSED = [
    (CLOSED, "ends with an end token"),
    (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system role') }}{% endif %}",
        "turns of system, user, got one that does not",
    ),
    ("{% for message in messages %}{{ message.content }}", "renders turns of system, user"),
    ("{{ messages[0].content.missing.more }}", "renders turns of system, user"),
    ("{{ range(1000) | list | random }}" + material.TEMPLATE, "expected the same prompt each time"),
    (
        "{% for m in messages if m.role == 'user' %}<|im_start|>user\n{{ m.content }}{% endfor %}",
        "expected a different prompt for each question",
    ),
]


@pytest.mark.parametrize(("template", "says"), REFUSED)
def test_a_template_that_does_not_make_prompts_is_one_line(template: str, says: str, tmp_path: Path) -> None:
    policy = load_policy(save_network(tmp_path, tokenizer=chat_tokenizer(template)))
    asked = [dataclasses.replace(ASKED, before=(("system", f"Use base {base}."),)) for base in range(7, 11)]
    said = refusal(policy, *asked)
    assert said.startswith("--prompt_template chat: ")
    assert says in said


def with_templates(folder: Path, template: object) -> Policy:
    """A network whose tokenizer's configuration holds the template or templates, as files of older versions do."""
    save_network(folder, tokenizer=chat_tokenizer())
    (folder / "chat_template.jinja").unlink()
    change_json(folder / "tokenizer_config.json", chat_template=template)
    return load_policy(str(folder))


def test_of_several_templates_the_default_is_taken_and_line_ends_do_not_matter(tmp_path: Path) -> None:
    listed = [{"name": name, "template": name + material.TEMPLATE} for name in ("tool_use", "default", "rag")]
    windows = "default" + material.TEMPLATE.replace("\n", "\r\n")
    for name, template in (("several", listed), ("windows", windows)):
        prompt = text(with_templates(tmp_path / name, template))
        assert prompt.startswith("default<|im_start|>")
        assert "\r" not in prompt
    policy = with_templates(tmp_path / "none", [one for one in listed if one["name"] != "default"])
    assert "multiple chat templates" in refusal(policy)


def test_tokens_beyond_the_embedding_are_refused(tmp_path: Path) -> None:
    late = chat_tokenizer("<|late|>" + material.TEMPLATE, extra=("<|late|>",))
    last = len(late) - 1
    said = refusal(load_policy(save_network(tmp_path / "less", tokenizer=late, more_rows=-1)))
    assert said.startswith(f"--model: expected tokens below {last}")
    assert f"got {last} ('<|late|>')" in said
    assert text(load_policy(save_network(tmp_path / "more", tokenizer=late, more_rows=9)))


def test_a_token_that_opens_the_answer_may_be_an_end_token(tmp_path: Path) -> None:
    """As Phi-3 has it: what opens the assistant's turn also ends it."""
    opening = "{% if add_generation_prompt %}<|im_start|>\n{% endif %}"
    template = "{% for message in messages %}{{ message.content }}</s>\n{% endfor %}" + opening
    save_network(tmp_path, tokenizer=chat_tokenizer(template))
    opens = chat_tokenizer().convert_tokens_to_ids("<|im_start|>")
    change_json(tmp_path / "generation_config.json", eos_token_id=[4, opens])
    policy = load_policy(str(tmp_path))
    assert policy.end_ids == {4, opens}
    assert text(policy).endswith("</s>\n<|im_start|>\n")


@pytest.mark.parametrize("listed", [-1, [0, 423], None])
def test_end_tokens_that_the_tokenizer_does_not_know_do_no_harm(listed: object, tmp_path: Path) -> None:
    model = save_network(tmp_path, more_rows=64)
    change_json(tmp_path / "generation_config.json", eos_token_id=listed)
    policy = load_policy(model)
    assert material.tokenizer().eos_token_id in policy.end_ids
    assert text(policy)


def test_tokens_behind_a_text_are_told_from_its_own(policy: Policy) -> None:
    """Whatever the vocabulary lacks, and where one token begins and ends texts."""
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({"</s>": 0, "1": 1, "2": 2, "+": 3}, unk_token="</s>"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex("."), "isolated")
    backend.post_processor = tokenizers.processors.TemplateProcessing("</s> $A </s>", special_tokens=[("</s>", 0)])
    own = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="</s>", eos_token="</s>")
    policy = dataclasses.replace(policy, tokenizer=own)
    assert [policy.encode(text) for text in ("1+2", "a", "aa+")] == [[0, 1, 3, 2], [0, 0], [0, 0, 0, 3]]
