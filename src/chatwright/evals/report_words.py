"""The report's words in English and simplified Chinese."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chatwright.evals.charts import Text

MODEL_NAMES: dict[str, Text] = {
    "base": ("base model", "基础模型"),
    "sft": ("SFT", "监督微调（SFT）"),
    "ppo": ("PPO", "强化学习（PPO）"),
    "ppo-without-ptx": ("PPO without ptx", "不含 ptx 的 PPO"),
    "dpo": ("DPO", "偏好优化（DPO）"),
    "bestofn": ("best-of-n", "多中选优（best-of-n）"),
}

COLUMNS: dict[str, Text] = {
    "gold_mean": ("score", "得分"),
    "fk_grade": ("grade", "阅读年级"),
    "words_mean": ("words", "长度"),
    "ended_share": ("ended", "自行结束"),
    "distinct_2": ("distinct-2", "distinct-2"),
    "duplicate_questions": ("answered alike", "雷同回答"),
    "kl_nats_per_token": ("KL/token", "KL/词元"),
    "bits_per_byte": ("bits/byte of text", "文本每字节比特数"),
}

PART_NAMES: dict[str, Text] = {
    "topic": ("on topic", "切题"),
    "comparison": ("comparison", "打比方"),
    "address": ("speaks to the child", "对孩子说话"),
    "grade": ("easy", "易读"),
    "length": ("length", "长度"),
    "sentences": ("whole sentences", "句子完整"),
    "sentence_length": ("short sentences", "句子短"),
    "common_characters": ("common characters", "常用字"),
    "ended": ("ended", "自行结束"),
    "plain": ("no lists", "无列表"),
    "varied": ("not repetitive", "不重复"),
    "count": ("two to four sentences", "两到四句"),
}

WORDS: dict[str, Text] = {
    "title": ("A model taught by demonstrations and rankings", "用示范与排序教会的模型"),
    "footer": (
        "Intervals are 95 % percentile bootstraps that draw whole questions; "
        "a tie counts one half. Made by Chatwright.",
        "区间为按问题重抽样的 95% 自助法百分位区间；平局计一半。由 Chatwright 生成。",
    ),
    "simulated": (
        "The labels are simulated: a written rubric ranked the answers, no person did. {rankings} rankings, "
        "{pairs} pairs, {ties} tied; noise turned round {flips} of the strict pairs, so no reward model can be "
        "expected to agree with more than {ceiling} of them. The figures show how "
        "the method works here, not what people would prefer.",
        "标签是模拟的：由一套写明的评分规则排序，没有真人参与。共 {rankings} 组排序、{pairs} 对，其中 {ties} 为平局；"
        "噪声翻转了 {flips} 的非平局对，因此奖励模型的准确率上限约为 {ceiling}。这些数字说明方法可行，不代表人的偏好。",
    ),
    "gate_overridden": (
        "PPO was run although the reward model's report card forbade it (--ignore-gate): accuracy {accuracy} against "
        "{length} of length alone. A higher learned reward may mean nothing.",
        "奖励模型的成绩单不允许进入 PPO，此次以 --ignore-gate 强行继续：准确率 {accuracy}，仅看长度为 {length}。"
        "学到的奖励变高可能没有意义。",
    ),
    "ptx_replay": (
        "PPO-ptx: the base model's own training corpus is not at hand, so replay text sampled from the base model "
        "stands in for it. Held-out loss on it: {loss}.",
        "PPO-ptx：手头没有基础模型的预训练语料，改用从基础模型采样的重放文本代替。其留出损失：{loss}。",
    ),
    "ptx_corpus": (
        "PPO-ptx: pre-training text from your corpus was mixed in. Held-out loss on it: {loss}.",
        "PPO-ptx：混入了你提供的语料中的预训练文本。其留出损失：{loss}。",
    ),
    "length": ("length baseline", "长度基线"),
    "rm_accuracy": ("reward model's accuracy on held-out pairs", "奖励模型在留出对上的准确率"),
    "time": ("time and peak memory", "用时与内存峰值"),
    "figures": ("Figures on held-out questions", "留出问题上的各项数字"),
    "figures_help": (
        "SFT, reward model and PPO saw none of these questions. Score by {judge}.",
        "SFT、奖励模型与 PPO 均未见过这些问题。得分由{judge}给出。",
    ),
    "answers_plain": ("One sampled answer of each model.", "每个模型各一个采样回答。"),
    "judged_by": ("Judge: {judge}.", "评判者：{judge}。"),
    "judged_first": ("One sampled answer to each question was compared.", "每个问题比较一个采样回答。"),
    "unreadable": (
        "{unreadable} of the judge's {replies} replies were unreadable.",
        "评判者的 {replies} 条答复中有 {unreadable} 条无法识别。",
    ),
    "judge_weak": (
        "That reward model's own report card is not good enough ({gate}), so its verdict says little.",
        "该奖励模型自身的成绩单不合格（{gate}），其判定意义有限。",
    ),
    "at_temperature": ("Sampled at temperature 1", "温度 1 采样"),
    "greedy": ("Greedy", "贪心解码"),
    "stages": ("Before and after every stage", "每个阶段的之前与之后"),
    "before": ("before", "之前"),
    "after": ("after", "之后"),
    "samples": ("What the base model writes, step by step of its pre-training", "预训练过程中基础模型写的文本"),
    "pretrain_loss": ("pre-training: loss per token (nats)", "预训练：每词元损失（nats）"),
    "without_ptx": ("without ptx", "不含 ptx"),
    "targets": ("Goals", "目标"),
    "value": ("reached", "达到"),
    "goal": ("goal", "目标值"),
    "verdict": ("", ""),
    "met": ("met", "达成"),
    "missed": ("missed", "未达成"),
    "preferred": ("Which answers are preferred", "更偏好哪个回答"),
    "win_rate": ("win rate with interval", "胜率与区间"),
    "even": ("even", "持平"),
    "answers": ("The same questions, answered by each model", "同一问题，各模型的回答"),
    "answers_help": (
        "One sampled answer of each model. The number is the rubric's score; below it its parts: green full, red none.",
        "每个模型各一个采样回答。数字为评分规则的得分；下方为各部分：绿色满分，红色零分。",
    ),
    "cut": ("cut at the token limit", "达到词元上限被截断"),
    "curves": ("Training", "训练过程"),
    "sft_loss": ("SFT: loss per token (nats)", "SFT：每词元损失（nats）"),
    "rm_loss": ("reward model: loss per pair", "奖励模型：每对损失"),
    "rm_accuracy_curve": ("reward model: accuracy", "奖励模型：准确率"),
    "ppo_reward": ("PPO: score by the reward model", "PPO：奖励模型评分"),
    "ppo_gold": ("PPO: noise-free rubric", "PPO：无噪声评分"),
    "ppo_kl": ("PPO: KL to the reference (nats per token)", "PPO：与参考模型的 KL（nats/词元）"),
    "ppo_length": ("PPO: tokens per answer", "PPO：每个回答的词元数"),
    "ppo_entropy": ("PPO: entropy (nats per token)", "PPO：熵（nats/词元）"),
    "ppo_ptx": ("PPO-ptx: loss on the mixed-in text", "PPO-ptx：混入文本上的损失"),
    "train": ("training", "训练"),
    "held_out": ("held out", "留出"),
    "rm_score": ("reward model", "奖励模型"),
    "gold": ("rubric", "评分"),
    "kl_token": ("KL", "KL"),
    "tokens": ("tokens", "词元"),
    "entropy": ("entropy", "熵"),
    "ptx_loss": ("ptx loss", "ptx 损失"),
    "step": ("step", "步"),
    "iteration": ("iteration", "轮"),
    "iterations": ("PPO iterations", "PPO 各轮"),
    "frontier": ("Reward against distance from the start", "奖励与偏离程度"),
    "frontier_help": (
        "When the training reward keeps rising while an independent score falls, the policy exploits the reward model.",
        "若训练所用的奖励继续上升而独立的评分下降，说明策略在钻奖励模型的空子。",
    ),
    "frontier_reward": ("score by the reward model", "奖励模型评分"),
    "kl_answer": ("KL to the reference (nats per answer)", "与参考模型的 KL（nats/回答）"),
    "card": ("Report card of the reward model", "奖励模型成绩单"),
    "card_all": ("All figures of the report card", "成绩单全部数字"),
    "gate_open": (
        "Good enough to train against: accuracy is above what length alone reaches on the same prompts (95 % interval and "
        "randomisation test).",
        "可用于训练：在相同的提示词上，其准确率高于只看长度（95% 区间与随机化检验）。",
    ),
    "all_pairs": ("all strict pairs", "全部非平局对"),
    "length_baseline": ("length only", "仅看长度"),
    "ceiling": ("ceiling (label noise)", "上限（标签噪声）"),
    "calibration": ("how often it is right, by its confidence", "置信度与实际正确率"),
    "tie_calibration": ("ties: predicted and observed", "平局：预测与实际"),
    "perfect": ("perfectly calibrated", "完全校准"),
    "this_model": ("this reward model", "本奖励模型"),
    "predicted": ("predicted", "预测"),
    "run": ("The run", "本次运行"),
    "run_model": ("base model", "基础模型"),
    "run_seed": ("seed", "随机种子"),
    "run_folder": ("folder", "文件夹"),
    "run_command": ("command", "命令"),
    "run_machine": ("computed with", "计算环境"),
    "run_chat_command": ("chat with it", "与它对话"),
    "run_created": ("made", "生成时间"),
    "run_chatwright": ("version", "版本"),
}


SCORE_NAMES: dict[str, Text] = {
    "simulated": ("rubric", "评分规则"),
    "held_out": ("independent reward", "独立奖励"),
    "learned": ("training reward", "训练所用奖励"),
}
"""Column of the score, by the kind of its judge."""


def score_name(report: Mapping[str, Any]) -> Text:
    """Meaning of the column `gold_mean` in this report."""
    return SCORE_NAMES.get(str(report.get("judge_kind", "")), COLUMNS["gold_mean"])


def column_name(column: str, report: Mapping[str, Any]) -> Text:
    """The head of a column."""
    return score_name(report) if column == "gold_mean" else COLUMNS[column]


def judge_text(judge: str, kind: str) -> Text:
    """A judge, and what kind of judge it is, in words."""
    return {
        "simulated": (
            f"the rubric {judge} (simulated: a rule, no person)", f"评分规则 {judge}（模拟：规则打分，没有真人）"
        ),
        "held_out": (
            "a reward model that none of these models was trained against",
            "未用于训练这些模型的奖励模型",
        ),
        "learned": (
            "the reward model that PPO was trained against, so it is an upper bound",
            "PPO 训练所用的奖励模型，故仅为上限",
        ),
        "ai": (f"the AI judge {judge.removeprefix('ai:')}", f"AI 评判 {judge.removeprefix('ai:')}"),
    }.get(kind, (judge or "not stated", judge or "未说明"))


def score_judge(report: Mapping[str, Any]) -> Text:
    """The judge of the score."""
    return judge_text(str(report.get("judge", "")), str(report.get("judge_kind", "")))


def preference_judge(report: Mapping[str, Any]) -> Text:
    """The judge of the win rates: an AI judge where there is one, else that of the score."""
    ai = report.get("preference_judge")
    return judge_text(ai["judge"], ai["judge_kind"]) if ai else score_judge(report)


def judge_notes(report: Mapping[str, Any]) -> list[Text]:
    """Sentences about the judge of the win rates: which it is, what it compared, and what limits it."""
    found = [filled("judged_by", judge=preference_judge(report))]
    ai = report.get("preference_judge") or {}
    if ai:
        found += [WORDS["judged_first"], filled("unreadable", unreadable=str(ai["unreadable"]), replies=str(ai["replies"]))]
    elif report.get("judge_gate"):
        found.append(filled("judge_weak", gate=str(report["judge_gate"]).rstrip(".")))
    return found


def filled(name: str, **values: Text | str) -> Text:
    """A text with its places filled, each with a text of its language."""
    english, chinese = ({key: text_of(value)[n] for key, value in values.items()} for n in (0, 1))
    return WORDS[name][0].format(**english), WORDS[name][1].format(**chinese)


_GATE_ZH = {
    "too few to tell": "无法判断：只有 {prompts} 个留出提示词含有不同回答的明确先后；请为更多提示词排序，或增大留出比例。",
    "the reward model gives all": "奖励模型给同一提示词的所有回答打相同的分：什么都没学到。",
    "the reward model is no": "奖励模型并不比只看长度更好：准确率 {accuracy}，只看长度 {length}，差 {difference}。",
    "": "奖励模型可能并不比只看长度更好：准确率 {accuracy}，只看长度 {length}，差 {difference}；请增加排序数据。",
}


def gate_text(card: Mapping[str, Any]) -> Text:
    """True when the gate is open, and why not (`gate.gate`)."""
    if card.get("gate") is None:
        return WORDS["gate_open"]
    above = card.get("above_length") or {"prompts": card["prompts"]}
    values = {"prompts": above["prompts"], "accuracy": f"{card['accuracy']['value']:.2f}",
              "length": f"{card['length_baseline']:.2f}", "difference": "?"}  # fmt: skip
    if "value" in above:
        values["difference"] = f"{above['value']:+.2f} [{above['low']:+.2f}, {above['high']:+.2f}]"
    chinese = next(text for start, text in _GATE_ZH.items() if card["gate"].startswith(start))
    return card["gate"], chinese.format(**values)


def text_of(value: Any) -> Text:
    """A text in both languages; one string stands for both."""
    return (value, value) if isinstance(value, str) else (str(value[0]), str(value[1]))


def figure_text(column: str, value: Any) -> str:
    """A figure with the digits its column asks for; a dash when there is none."""
    if value is None:
        return "–"
    if column == "ended_share":
        return f"{value:.1%}"
    if column in ("fk_grade", "words_mean"):
        return f"{value:.1f}"
    return f"{value}" if isinstance(value, int) else f"{value:.3f}"


def duration(seconds: float) -> Text:
    """Minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return (f"{minutes} min {rest:02d} s", f"{minutes} 分 {rest:02d} 秒") if minutes else (f"{rest} s", f"{rest} 秒")


def memory(size: float | None) -> str:
    """Bytes as GiB; nothing for None."""
    return "" if size is None else f"{size / 2**30:.1f} GiB"
