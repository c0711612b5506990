import { existsSync, readdirSync, statSync } from 'node:fs';
import { join, relative, resolve, sep } from 'node:path';
import { Failure } from '#runner/lib/failure.ts';

/** What AVA is asked to run. Both empty: everything. */
export interface Selection {
  /** Directories and files, relative to the project. */
  readonly files: readonly string[];
  /** AVA title patterns, `*` for anything. */
  readonly match: readonly string[];
}

/**
 * `suites`: areas (folders of `suites/`), test files as the report names them (`area/file`), or their paths. `match`: titles, or whole ids as the report
 * has them (`area/file: title`), which also select the file.
 *
 * @throws Failure E_USAGE for an area or file that is not there.
 */
export function selectTests(
  projectDir: string,
  suites: readonly string[],
  match: readonly string[],
): Selection {
  const files = suites.map((suite) => locate(projectDir, suite));
  const patterns: string[] = [];
  for (const pattern of match) {
    const { file, title } = splitId(projectDir, pattern);
    if (file !== undefined && !files.includes(file)) files.push(file);
    patterns.push(title);
  }
  return { files, match: patterns };
}

/** Folders of `suites/` that hold tests. */
export function listAreas(projectDir: string): readonly string[] {
  const dir = join(projectDir, 'suites');
  if (!existsSync(dir)) return [];
  return readdirSync(dir, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && entry.name !== 'lib')
    .map((entry) => entry.name)
    .toSorted();
}

function locate(projectDir: string, suite: string): string {
  const areas = listAreas(projectDir);
  if (areas.includes(suite)) return `suites/${suite}`;
  const named = [suite, `${suite}.test.ts`].map((name) => resolve(projectDir, 'suites', name));
  for (const path of [...named, resolve(projectDir, suite), resolve(suite)]) {
    const below = relative(join(projectDir, 'suites'), path);
    if (!areas.includes(below.split(sep, 1)[0] ?? '')) continue;
    if (existsSync(path) && (statSync(path).isDirectory() || path.endsWith('.test.ts'))) {
      return relative(projectDir, path);
    }
  }
  throw new Failure('E_USAGE', 'user', `there is no suite ${JSON.stringify(suite)}`, {
    hint: `--suite takes an area (${areas.join(', ')}) or a test file of one, like passthrough-io/append`,
  });
}

function splitId(projectDir: string, pattern: string): { file: string | undefined; title: string } {
  const match = /^([\w-]+\/[\w/-]+): (.+)$/.exec(pattern);
  const file = match === null ? undefined : `suites/${match[1] ?? ''}.test.ts`;
  if (file === undefined || !existsSync(join(projectDir, file))) return { file: undefined, title: pattern };
  return { file, title: match?.[2] ?? pattern };
}
