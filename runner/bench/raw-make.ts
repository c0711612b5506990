import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { $ } from 'zx';
import { makeCommand } from '#kernel/build/make.ts';
import type { BuildPlace } from '#kernel/prepare-kernel.ts';
import { execOrFail } from '#runner/lib/exec.ts';
import { Failure } from '#runner/lib/failure.ts';
import { endGroup } from '#runner/lib/end-group.ts';
import type { OneObjectChange } from './one-object-change.ts';

/** A copy of a build tree in which make is called as anybody would. */
export class RawTree {
  readonly #place: BuildPlace;
  readonly #source: string;
  readonly #objects: string;

  private constructor(place: BuildPlace, source: string) {
    this.#place = place;
    this.#source = source;
    this.#objects = join(source, place.objects.slice(place.source.length + 1));
  }

  /** Copies the tree as it is now to `source`, which is not there yet. @throws Failure E_BENCH_BUILD (infra). */
  static async copy(place: BuildPlace, source: string, signal: AbortSignal): Promise<RawTree> {
    const tree = new RawTree(place, source);
    await using _lock = await place.lock();
    const copy = (flags: readonly string[], from: string, to: string): Promise<unknown> =>
      execOrFail('cp', ['--archive', ...flags, '--', from, to], { signal, code: 'E_BENCH_BUILD' });
    // Sources are shared, as nobody writes into them; objects are not, as the linker does.
    await copy(['--link'], place.source, source);
    await rm(tree.#objects, { recursive: true, force: true });
    await copy(['--reflink=auto'], place.objects, tree.#objects);
    return tree;
  }

  /**
   * Brings the change in and builds.
   *
   * @returns seconds that make took.
   * @throws Failure E_BENCH_BUILD (infra), or the signal's reason.
   */
  async make(change: OneObjectChange, log: string, signal: AbortSignal): Promise<number> {
    const target = join(this.#source, change.file);
    // A file of its own: the one that is there is shared with the pristine source.
    await rm(target, { force: true });
    await writeFile(target, change.contents);
    const { args, env } = makeCommand(['bzImage'], {
      toolchain: this.#place.toolchain,
      source: this.#source,
      objects: this.#objects,
    });
    const shell = $({
      env: { ...process.env, ...env },
      signal,
      killSignal: 'SIGKILL',
      detached: true,
      nothrow: true,
      quiet: true,
    });
    const startedAt = performance.now();
    const running = shell`env ${args} </dev/null >>${log} 2>&1`;
    try {
      const { exitCode } = await running;
      const seconds = (performance.now() - startedAt) / 1000;
      if (exitCode === 0) return seconds;
    } finally {
      await endGroup(running.pid);
    }
    signal.throwIfAborted();
    throw new Failure('E_BENCH_BUILD', 'infra', 'make failed in the copy of the build tree', {
      hint: `make's words are in ${log}`,
      evidence: [{ label: 'make log', path: log }],
    });
  }
}
