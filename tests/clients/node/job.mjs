// What every script here shares: where to call, as whom, and the researcher's tool.
// Without a run there are no tags at all: whose call it is must be inferred.

export const ROOT = process.env.AIOPS_ROOT;
export const RUN = process.env.AIOPS_RUN ?? "";
export const MODEL = "gpt-4o-mini";
export const QUESTION = "When should we leave the harbour?";
export const PLANNER = "You are the planner. Ask the researcher before you answer.";
export const RESEARCHER = "You are the researcher. Look things up before you answer.";

const tags = (headers) => (RUN ? { ...headers, "x-aiops-run": RUN } : {});
export const PLANNER_HEADERS = tags({ "x-aiops-agent": "planner" });
export const RESEARCHER_HEADERS = tags({
  "x-aiops-agent": "researcher",
  "x-aiops-caller": "planner",
});
// The same tags without headers.
export const PLANNER_URL = RUN
  ? `${ROOT}/run/${RUN}/agent/planner/v1`
  : process.env.OPENAI_BASE_URL;

export const lookup = ({ topic }) => `${topic}: high water at 03:10 and 15:35`;

/** Prints the line the runner waits for; an empty answer is a failure. */
export function report(...answers) {
  const texts = answers.map((answer) => String(answer ?? "").trim());
  const ok = texts.every((text) => text !== "");
  console.log(JSON.stringify({ ok, answer: texts[0], answers: texts.length }));
}
