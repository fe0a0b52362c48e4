import dataclasses
from typing import Any

import pytest
import tokenizers
import transformers

from harness.config.task import DataSettings
from harness.errors import UsageError
from harness.model.policy import Policy
from harness.tasks.math.prompts import prompts_of, rendered
from harness.tasks.math.questions import Question
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


@pytest.fixture
def policy() -> Policy:
    return material.answering_policy()


def text(settings: DataSettings, policy: Policy, question: Question = ASKED) -> str:
    (problem,) = prompts_of([question], settings, policy)[0].values()
    assert problem.answer == question.answer
    return problem.prompt


def test_the_published_prompt(policy: Policy) -> None:
    assert text(DataSettings(), policy) == PUBLISHED
    tokens = policy.encode(PUBLISHED)
    assert tokens[0] == policy.tokenizer.convert_tokens_to_ids("<|im_start|>")  # special tokens are read as such
    assert policy.tokenizer.decode(tokens) == PUBLISHED
    assert policy.tokenizer.convert_ids_to_tokens(sorted(policy.end_ids)) == ["<|endoftext|>", "<|im_end|>"]
    for end in policy.end_ids:
        assert policy.decode([*policy.encode("Answer: 5"), end]) == "Answer: 5"


def test_a_base_models_prompt_is_the_text_alone(policy: Policy) -> None:
    assert text(DataSettings(prompt_template="plain", answer_format="boxed"), policy) == (
        "What is 2+3?\n\nPlease reason step by step, and put your final answer within \\boxed{}."
    )


def test_a_data_sets_own_system_message_comes_first(policy: Policy) -> None:
    asked = dataclasses.replace(ASKED, before=(("system", "Be brief."),))
    assert text(DataSettings(), policy, asked).startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n")
    assert text(DataSettings(prompt_template="plain"), policy, asked).startswith("Be brief.\n\nSolve the following")


def test_prompts_over_the_limit_are_counted_and_left_out_never_cut(policy: Policy) -> None:
    long = Question("What is " + "1 + " * 100 + "1?", "101")
    lengths = [len(policy.encode(text(DataSettings(), policy, one))) for one in (ASKED, long)]
    for limit, kept in ((lengths[0] - 1, 0), (lengths[0], 1), (lengths[1] - 1, 1), (lengths[1], 2)):
        found, left_out = prompts_of([ASKED, long], DataSettings(max_prompt_tokens=limit), policy)
        assert list(found) == [question.identity for question in (ASKED, long)[:kept]]
        assert left_out == 2 - kept


def test_a_tokenizer_without_a_template_is_refused(random_policy: Policy) -> None:
    with pytest.raises(UsageError, match="--prompt_template plain"):
        rendered([("user", "What?")], DataSettings(), random_policy.tokenizer)


def llama_like(adds: bool) -> Any:
    """A tokenizer whose template begins with the token that it may put before every text itself."""
    vocabulary = {"<s>": 0, "</s>": 1, "[INST]": 2, "What": 3, "?": 4}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="?"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    if adds:
        backend.post_processor = tokenizers.processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["[INST]"],
        chat_template="<s>{% for message in messages %}[INST]{{ message['content'] }}{% endfor %}",
    )


@pytest.mark.parametrize("adds", [True, False])
def test_the_first_token_stands_once(policy: Policy, adds: bool) -> None:
    other = dataclasses.replace(policy, tokenizer=llama_like(adds))
    prompt = rendered([("user", "What")], DataSettings(), other.tokenizer)
    assert other.encode(prompt) == [0, 2, 3]
