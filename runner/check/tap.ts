/** What a TAP stream says, as AVA writes it. */
export interface TapSummary {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** Title and diagnostic block of every failed point, in their order. */
  readonly failures: readonly { readonly title: string; readonly detail: readonly string[] }[];
}

const POINT = /^(?<not>not )?ok \d+(?: - (?<title>.*?))?(?<directive> # (?:SKIP|TODO)\b.*)?$/i;

/** Counts the test points themselves: a stream that was cut short has no summary to trust. */
export function parseTap(text: string): TapSummary {
  let passed = 0;
  let skipped = 0;
  const failures: { title: string; detail: string[] }[] = [];
  let detail: string[] | undefined;
  for (const line of text.split('\n')) {
    const point = POINT.exec(line)?.groups;
    if (point === undefined) {
      if (detail !== undefined && /^\s/.test(line)) detail.push(line);
      continue;
    }
    detail = undefined;
    if (point['directive'] !== undefined) skipped += 1;
    else if (point['not'] === undefined) passed += 1;
    else {
      detail = [];
      failures.push({ title: point['title'] ?? 'untitled', detail });
    }
  }
  return { passed, failed: failures.length, skipped, failures };
}
