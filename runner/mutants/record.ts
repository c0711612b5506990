import { createHash } from 'node:crypto';
import { globSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { numbersOf } from './number-set.ts';

/** What is known from earlier calls, in the directory of results. */

const resultSchema = z.strictObject({
  /** `unreached`: no test comes across the mistake. `no-verdict`: machines were lost, or time was up. */
  outcome: z.enum(['noticed', 'survived', 'unreached', 'no-verdict']),
  /** Id of the first test that failed; null: it was the machine. */
  by: z.string().nullable(),
  message: z.string().nullable(),
  durationMs: z.number(),
  /** Test files that did not notice, as they were. */
  tried: z.record(z.string(), z.string()),
});
export type MutantResult = z.infer<typeof resultSchema>;

const fileSchema = z.strictObject({
  hash: z.string(),
  tests: z.array(z.strictObject({ id: z.string(), durationMs: z.number(), reached: z.string() })),
});

const reachSchema = z.strictObject({
  /** Of the kernel's image; another kernel knows nothing of this. */
  kernel: z.string(),
  /** By test file. */
  files: z.record(z.string(), fileSchema),
});

const resultsSchema = z.strictObject({
  kernel: z.string(),
  /** By number. */
  results: z.record(z.string(), resultSchema),
});

export type MutantRecord = z.infer<typeof reachSchema> & z.infer<typeof resultsSchema>;

/** What some test comes across. */
export function reachedOf(files: MutantRecord['files']): ReadonlySet<number> {
  const reached = new Set<number>();
  for (const { tests } of Object.values(files)) {
    for (const test of tests) for (const number of numbersOf(test.reached)) reached.add(number);
  }
  return reached;
}

/** Which test comes across what is large, and what came of a mistake is written after each. */
const FILES = { reach: 'reach.json', results: 'mutants.json' } as const;

/** Empty where there is none, or one of another kernel. */
export async function loadRecord(dir: string, kernel: string): Promise<MutantRecord> {
  const [reach, results] = [await load(dir, FILES.reach), await load(dir, FILES.results)];
  const [known, ended] = [reachSchema.safeParse(reach), resultsSchema.safeParse(results)];
  return {
    kernel,
    files: known.success && known.data.kernel === kernel ? known.data.files : {},
    results: ended.success && ended.data.kernel === kernel ? ended.data.results : {},
  };
}

async function load(dir: string, name: string): Promise<unknown> {
  const text = await readFile(join(dir, name), 'utf8').catch(() => null);
  return text === null ? null : JSON.parse(text);
}

export function saveReach(dir: string, { kernel, files }: MutantRecord): void {
  save(dir, FILES.reach, { kernel, files } satisfies z.infer<typeof reachSchema>);
}

export function saveResults(dir: string, { kernel, results }: MutantRecord): void {
  save(dir, FILES.results, { kernel, results } satisfies z.infer<typeof resultsSchema>);
}

/** At once: two results that come together are written one after the other. */
function save(dir: string, name: string, value: unknown): void {
  const path = join(dir, name);
  mkdirSync(dir, { recursive: true });
  writeFileSync(`${path}.new`, `${JSON.stringify(value, null, 1)}\n`);
  renameSync(`${path}.new`, path);
}

/** Test files below `suites/` with a hash of their text and of the words they use. */
export async function hashSuites(projectDir: string): Promise<ReadonlyMap<string, string>> {
  const list = (pattern: string): readonly string[] => globSync(pattern, { cwd: projectDir }).toSorted();
  const read = (file: string): Promise<string> => readFile(join(projectDir, file), 'utf8');
  const words = await Promise.all(list('suites/lib/*.ts').map(read));
  const files = list('suites/*/*.test.ts').filter((file) => !file.startsWith('suites/lib/'));
  const entries = files.map(async (file) => {
    const hash = createHash('sha256');
    for (const text of [...words, await read(file)]) hash.update(text);
    return [file, hash.digest('hex').slice(0, 16)] as const;
  });
  return new Map(await Promise.all(entries));
}

/** `area/file: title` → `suites/area/file.test.ts`. */
export function fileOfTest(id: string): string {
  return `suites/${id.slice(0, id.indexOf(': '))}.test.ts`;
}
