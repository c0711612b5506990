import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import type { Emit } from '#runner/lib/events.ts';
import { parseJson } from '#runner/lib/json.ts';
import { cacheDir } from '#runner/lib/paths.ts';

/** Test id → milliseconds. */
const schema = z.record(z.string(), z.number());

/**
 * How long tests took the last time, kept in the cache for each profile and accelerator. They decide in which
 * order files run and nothing else: what cannot be read or written is as if nothing had been recorded.
 */
export class FileDurations {
  readonly #path: string;
  readonly #recorded: Map<string, number>;
  readonly #now = new Map<string, number>();

  private constructor(path: string, recorded: Map<string, number>) {
    this.#path = path;
    this.#recorded = recorded;
  }

  /** @param name of the record: profile and accelerator. */
  static async load(name: string, path = cacheDir('durations', `${name}.json`)): Promise<FileDurations> {
    const text = await readFile(path, 'utf8').catch(() => '{}');
    const parsed = schema.safeParse(parseJson(text));
    return new FileDurations(path, new Map(Object.entries(parsed.data ?? {})));
  }

  /** Of all tests of a file that were seen before. `file`: `suites/area/file.test.ts`. */
  readonly expectedMs = (file: string): number | undefined => {
    const prefix = prefixOf(file);
    const known = [...this.#recorded].filter(([id]) => id.startsWith(prefix));
    return known.length === 0 ? undefined : known.reduce((total, [, ms]) => total + ms, 0);
  };

  /** The same `emit`, and what it says of tests is remembered. */
  watch(emit: Emit): Emit {
    return (event) => {
      if (event.type === 'test-finished' && event.outcome !== 'not-run')
        this.#now.set(event.id, event.durationMs);
      emit(event);
    };
  }

  /** Never rejects. */
  async save(): Promise<void> {
    const all = Object.fromEntries([...this.#recorded, ...this.#now]);
    const draft = `${this.#path}.${process.pid}.tmp`;
    try {
      await mkdir(dirname(this.#path), { recursive: true });
      await writeFile(draft, JSON.stringify(all));
      await rename(draft, this.#path);
    } catch {
      // The next run has a worse order.
    }
  }
}

function prefixOf(file: string): string {
  return `${file.replace(/^suites\//, '').replace(/\.test\.ts$/, '')}: `;
}
