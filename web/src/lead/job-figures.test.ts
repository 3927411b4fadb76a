import { expect, it } from "vitest";
import { readFigures } from "./job-figures";

const LOG = `retrain: export c50603c926cfb054: 3 demonstrations, 58 prompts, 49 rankings, 0 ratings
3/6 reward
reward: 37 rankings, 12 held out, ties 33%, torch.float32
reward: 10/20 steps, 34,607 tokens/s, 30:08 left, loss 0.918
reward: 20/20 steps, 34,607 tokens/s, 0:00 taken, loss 0.718
accuracy                   0.917 [0.750, 1.000]  n=24
5/6 ppo
ppo: 1/40 steps, 1,773 tokens/s, 1:02:03 left, reward -0.29, KL -0.000/token
ppo: 7/40 steps, 1,773 tokens/s, 50:01 left, reward 0.317, KL 1.8e-2/token
`;

it("reads the newest stage of a log", () => {
  expect(readFigures(LOG)).toEqual({
    stage: "ppo", done: 7, of: 40, unit: "steps", left: "50:01",
    series: [
      { name: "reward", unit: "", points: [{ step: 1, value: -0.29 }, { step: 7, value: 0.317 }] },
      { name: "KL", unit: "/token", points: [{ step: 1, value: -0 }, { step: 7, value: 0.018 }] },
    ],
  });
  expect(readFigures(LOG.split("5/6")[0]!)).toMatchObject({ stage: "reward", done: 20, of: 20, left: "", series: [{ name: "loss", points: [{ value: 0.918 }, { value: 0.718 }] }] });
});
it("tells nothing of a log without figures", () => {
  expect([readFigures(""), readFigures("Error: 3/4 of nothing"), readFigures("evaluate serving (sampled): 10/10 answers, 3,950 tokens/s, 0:00 taken")?.series]).toEqual([null, null, []]);
});
