import { relative, sep } from 'node:path';

export interface TestId {
  /** `area/file: title` */
  readonly id: string;
  readonly area: string;
  readonly title: string;
}

/** `<suites>/passthrough-io/read.test.ts` and `title` → `passthrough-io/read: title`. */
export function testId(suitesDir: string, file: string, title: string): TestId {
  const path = relative(suitesDir, file).replace(/\.test\.[cm]?[jt]s$/, '');
  const parts = path.split(sep);
  const area = parts.length > 1 ? (parts[0] ?? 'suites') : 'suites';
  const within = parts.length > 1 ? parts.slice(1).join('/') : path;
  return { id: `${area}/${within}: ${title}`, area, title };
}

/** A test's own way of naming itself to the broker may still have the file's ending. */
export function normaliseTestId(id: string): string {
  return id.replace(/^([^:]*?)\.test\.[cm]?[jt]s: /, '$1: ');
}

/** A pattern for AVA's `--match` that matches this title only. */
export function exactMatch(title: string): string {
  return title.replaceAll(/[\\*]/g, String.raw`\$&`).replace(/^!/, String.raw`\!`);
}
