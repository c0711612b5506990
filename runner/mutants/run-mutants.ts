import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cleanLine } from '#runner/lib/clean-text.ts';
import { formatDuration } from '#runner/report/format.ts';
import { prepareAll } from '#runner/run/prepare.ts';
import { sampleOf, type Sample } from './every-mutant.ts';
import { loadMutants, type Catalogue, type Mutant } from './mutants.ts';
import { noteReach } from './note-reach.ts';
import type { MutantContext, TestEnd } from './one-pass.ts';
import {
  hashSuites,
  loadRecord,
  reachedOf,
  saveReach,
  saveResults,
  type MutantRecord,
  type MutantResult,
} from './record.ts';
import { renderMutants, TABLE_MARK, type Row } from './render.ts';
import { stillHolds, tryMutant } from './try-mutant.ts';

export interface MutantsOptions extends Omit<MutantContext, 'prepared'> {
  readonly mutants: readonly Mutant[];
  /** Of those that a test comes across only so many. */
  readonly sample?: Sample | undefined;
  /** Also those whose result is known. */
  readonly again: boolean;
  readonly tell: (line: string) => void;
}

export interface MutantsEnd {
  /** The mistakes that were chosen. */
  readonly rows: readonly Row[];
  /** Those that no test comes across; with a sample they are not in `rows`. */
  readonly unreached: readonly Mutant[];
  /** All that is known, from earlier calls too. */
  readonly results: MutantRecord['results'];
  /** Tests that fail without any mistake: then nothing else was tried. */
  readonly failed: readonly TestEnd[];
  readonly release: string;
}

/**
 * One kernel with all mistakes: first the tests without any, which also says who comes across which; then
 * every mistake until somebody notices. What is found is kept after each.
 */
export async function runMutants(options: MutantsOptions): Promise<MutantsEnd> {
  const { config, profile, parts, signal, note, tell, mutants } = options;
  const prepared = await prepareAll(config, profile, parts, {
    emit: (event) => {
      if (event.type === 'note') note(event.text);
    },
    signal,
  });
  const { release, imageSha256 } = prepared.kernel;
  const context = { ...options, prepared };
  let record = await loadRecord(config.out, imageSha256);

  const known = await withReach(context, record, tell);
  record = known.record;
  saveReach(config.out, record);
  const reached = reachedOf(record.files);
  const unreached = mutants.filter(({ number }) => !reached.has(number));
  const end = { unreached, release };
  if (known.failed.length > 0) return { ...end, rows: [], results: record.results, failed: known.failed };

  const chosen = options.sample === undefined ? mutants : sampleOf(mutants, reached, options.sample);
  await inLanes(context, chosen, async (lane, mutant) => {
    const earlier = record.results[mutant.number];
    if (!options.again && stillHolds(earlier, record.files)) return;
    const result = await tryMutant(lane, mutant, record);
    record = { ...record, results: { ...record.results, [mutant.number]: result } };
    saveResults(config.out, record);
    tell(inWords(mutant, result));
  });
  const rows = chosen.map((mutant) => ({ mutant, result: record.results[mutant.number] }));
  return { ...end, rows, results: record.results, failed: [] };
}

/**
 * Each machine tries mistakes of its own: most are noticed by one of a few tests, and a second machine for those
 * few would be ready when they are over.
 */
async function inLanes(
  context: MutantContext,
  mutants: readonly Mutant[],
  each: (lane: MutantContext, mutant: Mutant) => Promise<void>,
): Promise<void> {
  const { config } = context;
  const lanes = Math.max(1, Math.min(config.jobs, mutants.length));
  const others = new AbortController();
  const signal = AbortSignal.any([context.signal, others.signal]);
  const queue = mutants.values();
  const work = Array.from({ length: lanes }, async (_, nth) => {
    const own = {
      ...config,
      jobs: Math.floor(config.jobs / lanes),
      out: join(config.out, `lane-${nth + 1}`),
    };
    try {
      for (const mutant of queue) await each({ ...context, signal, config: own }, mutant);
    } catch (error) {
      others.abort(error);
      throw error;
    }
  });
  const ends = await Promise.allSettled(work);
  const failed = ends.find((end) => end.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
}

/** What the selected test files come across, where it is not known yet. */
async function withReach(
  context: MutantContext,
  record: MutantRecord,
  tell: (line: string) => void,
): Promise<{ readonly record: MutantRecord; readonly failed: readonly TestEnd[] }> {
  const { selection } = context.config;
  const hashes = await hashSuites(context.projectDir);
  const selected = [...hashes].filter(
    ([file]) =>
      selection.files.length === 0 ||
      selection.files.some((part) => file === part || file.startsWith(`${part}/`)),
  );
  const fresh = new Map(selected.filter(([file, hash]) => record.files[file]?.hash !== hash));
  if (fresh.size === 0) return { record, failed: [] };
  tell(`without any mistake: ${fresh.size} test files`);
  const noted = await noteReach(context, fresh);
  const there = Object.entries({ ...record.files, ...noted.files }).filter(([file]) => hashes.has(file));
  return { record: { ...record, files: Object.fromEntries(there) }, failed: noted.failed };
}

function inWords({ number, file, what }: Mutant, { outcome, by, message, durationMs }: MutantResult): string {
  const who = outcome === 'noticed' ? `by ${by ?? 'the machine'}: ${cleanLine(message ?? '', 100)}` : '';
  return `${number} ${outcome} (${formatDuration(durationMs)}): ${file}: ${what} ${who}`.trimEnd();
}

/**
 * Puts the table into the catalogue's page, and who noticed into its mutants.json. Both have all mistakes of
 * the catalogue, however few were chosen this time.
 */
export async function recordMutants(
  projectDir: string,
  catalogue: Catalogue,
  { results, release }: Pick<MutantsEnd, 'results' | 'release'>,
): Promise<void> {
  const page = join(projectDir, catalogue.page);
  const rows = (await loadMutants(catalogue)).map((mutant) => ({ mutant, result: results[mutant.number] }));
  const [before = ''] = (await readFile(page, 'utf8')).split(TABLE_MARK);
  await writeFile(page, `${before}${renderMutants(rows, release)}`);
  const mutants = rows.map(({ mutant, result }) => {
    const by = result?.by ?? null;
    return by === null ? mutant : { ...mutant, noticedBy: [by] };
  });
  await writeFile(catalogue.file, `${JSON.stringify(mutants, null, 2)}\n`);
}
