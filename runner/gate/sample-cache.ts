import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { glob, mkdir, readFile, rename, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { cacheDir } from '#runner/lib/paths.ts';
import type { Sample, Wanted } from './sample.ts';

/** Raised whenever what a sample means changes. */
const FORMAT = 2;

const sample = z.object({
  test: z.string(),
  seen: z.enum(['pass', 'fail', 'skip', 'lost']),
  outcome: z.enum(['passed', 'failed', 'skipped', 'crashed', 'timed-out', 'not-run']),
  message: z.string().nullable(),
  durationMs: z.number(),
  faults: z.array(z.object({ kind: z.string(), title: z.string(), fingerprint: z.string() })),
  evidence: z.array(z.object({ label: z.string(), path: z.string() })),
  copy: z.boolean().optional(),
});
const entry = z.object({ format: z.literal(FORMAT), samples: z.array(sample) });

/** All that decides what a run can show. */
export interface Circumstances {
  /** What the kernel does, see kernelContent. */
  readonly kernel: string;
  readonly rootfs: string;
  /** sha256 of the daemon's one file. */
  readonly daemon: string;
  readonly accelerator: string;
  readonly append: string;
  readonly profile: string;
  /** sha256 over the test files that can run, and over what they are written with. */
  readonly suites: string;
  readonly wanted: Wanted;
  readonly times: number;
  /** The same was asked so often before in this gate. */
  readonly nth: number;
}

/**
 * Run-time results by everything that decides them; what was lost is not among them. Evidence stays where the run
 * put it, and is named as long as it is there.
 */
export class SampleCache {
  readonly #use: boolean;

  constructor(use: boolean) {
    this.#use = use;
  }

  async find(circumstances: Circumstances): Promise<readonly Sample[] | undefined> {
    if (!this.#use) return undefined;
    try {
      const path = pathOf(circumstances);
      const { samples } = entry.parse(JSON.parse(await readFile(path, 'utf8')));
      // What is used stays longest, see pruneVerdicts; two gates at once may take it away in between.
      const now = new Date();
      await utimes(path, now, now).catch(() => undefined);
      return samples.map((found) => ({
        ...found,
        evidence: found.evidence.filter(({ path }) => existsSync(path)),
      }));
    } catch {
      // Not there, or of another format: it is made anew.
      return undefined;
    }
  }

  /** Also with --no-cache, so that the next run has the newer result. */
  async store(circumstances: Circumstances, samples: readonly Sample[]): Promise<void> {
    if (samples.some(({ seen }) => seen === 'lost')) return;
    const path = pathOf(circumstances);
    await mkdir(dirname(path), { recursive: true });
    const draft = `${path}.${process.pid}`;
    await writeFile(draft, JSON.stringify({ format: FORMAT, samples }));
    await rename(draft, path);
  }
}

function pathOf(circumstances: Circumstances): string {
  const { wanted, ...rest } = circumstances;
  const text = JSON.stringify([
    FORMAT,
    Object.entries(rest).toSorted(([a], [b]) => (a < b ? -1 : 1)),
    wanted === 'all' ? wanted : wanted.toSorted(),
  ]);
  const key = createHash('sha256').update(text).digest('hex');
  return cacheDir('verdicts', key.slice(0, 2), `${key}.json`);
}

/** sha256 over the tests that `files` select and all that they import. `files` empty: all of them. */
export async function suitesContent(projectDir: string, files: readonly string[]): Promise<string> {
  const hash = createHash('sha256');
  const patterns = ['suites/**/*.ts', 'rootfs/protocol/*.ts', 'runner/lease/messages.ts', 'ava.config.js'];
  const found = (await Array.fromAsync(glob(patterns, { cwd: projectDir }))).toSorted();
  for (const file of found) {
    const isTest = file.endsWith('.test.ts') && !file.startsWith('suites/lib/');
    const selected = files.length === 0 || files.some((part) => file === part || file.startsWith(`${part}/`));
    if (isTest && !selected) continue;
    hash.update(`${file}\0`).update(await readFile(join(projectDir, file)));
  }
  return hash.digest('hex');
}
