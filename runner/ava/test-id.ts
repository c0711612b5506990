import { relative, sep } from 'node:path';

export interface TestId {
  /** `area/file: title` */
  readonly id: string;
  readonly area: string;
  readonly title: string;
}

/** `<suites>/passthrough-io/read.test.ts` and `title` → `passthrough-io/read: title`. */
export function testId(suitesDir: string, file: string, title: string): TestId {
  const name = fileId(suitesDir, file);
  return { id: `${name}: ${title}`, area: name.split('/', 1)[0] ?? name, title };
}

/** `<suites>/passthrough-io/read.test.ts` → `passthrough-io/read`: what the ids of its tests begin with. */
export function fileId(suitesDir: string, file: string): string {
  const parts = relative(suitesDir, file)
    .replace(/\.test\.[cm]?[jt]s$/, '')
    .split(sep);
  return parts.length > 1 ? parts.join('/') : `suites/${parts.join('')}`;
}

/** A test's own way of naming itself to the broker may still have the file's ending. */
export function normaliseTestId(id: string): string {
  return id.replace(/^([^:]*?)\.test\.[cm]?[jt]s: /, '$1: ');
}

/** A pattern for AVA's `--match` that matches this title only. */
export function exactMatch(title: string): string {
  return title.replaceAll(/[\\*]/g, String.raw`\$&`).replace(/^!/, String.raw`\!`);
}
