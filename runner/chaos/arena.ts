import { mkdir, mkdtemp, readdir, readFile, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheDir } from '#runner/lib/paths.ts';
import { mountPointsBelow } from '#runner/lib/reap-run.ts';
import { findVictims } from './victims.ts';

/** Environment variable that every process of the chaos carries, those included that carry no run's label. */
export const CHAOS_LABEL = 'FUSEGATE_CHAOS';

/** What a run makes for itself alone, and so is looked at after each. */
const OWN = ['states', 'runs', 'locks'];

/** How long a run's reaper may take. Milliseconds. */
const REAP_MS = 15_000;

/** A directory in which runs leave their traces, with a cache that borrows kernels and images from the usual one. */
export class Arena implements AsyncDisposable {
  readonly dir: string;
  readonly #before: Readonly<Record<string, string | undefined>>;

  private constructor(dir: string) {
    this.dir = dir;
    this.#before = { cache: process.env['FUSEGATE_CACHE'], tmp: process.env['TMPDIR'] };
  }

  /** From here on it is the cache and the temporary directory of this process and all that it starts. */
  static async enter(): Promise<Arena> {
    const arena = new Arena(await mkdtemp('/tmp/fusegate-chaos-'));
    await Promise.all([mkdir(arena.path('cache')), mkdir(arena.path('tmp'))]);
    for (const name of await readdir(cacheDir())) {
      if (!OWN.includes(name)) await symlink(cacheDir(name), arena.path('cache', name));
    }
    process.env['FUSEGATE_CACHE'] = arena.path('cache');
    process.env['TMPDIR'] = arena.path('tmp');
    return arena;
  }

  path(...parts: readonly string[]): string {
    return join(this.dir, ...parts);
  }

  async forgetStates(): Promise<void> {
    await rm(this.path('cache', 'states'), { recursive: true, force: true });
  }

  /** What a run with this label has left, after its reaper had its time; nothing is what is wanted. */
  async leftovers(label: string): Promise<readonly string[]> {
    const until = performance.now() + REAP_MS;
    for (;;) {
      const left = await this.#look(label);
      if (left.length === 0 || performance.now() > until) return left;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  async #look(label: string): Promise<readonly string[]> {
    const processes = await findVictims(CHAOS_LABEL, label);
    const names = async (...parts: readonly string[]): Promise<readonly string[]> =>
      (await readdir(this.path(...parts)).catch(() => [])).map((name) => `${parts.join('/')}/${name}`);
    return [
      ...processes.map(({ identity, role }) => `process ${identity.pid} (${role})`),
      ...(await names('tmp')),
      ...(await names('cache', 'runs')),
      ...(await names('cache', 'states')).filter((name) => name.endsWith('.draft')),
      ...mountPointsBelow(await readFile('/proc/self/mountinfo', 'utf8'), this.dir),
      ...(await this.#lockHolders()),
    ];
  }

  /** They carry no label: their environment is empty on purpose. */
  async #lockHolders(): Promise<readonly string[]> {
    const holders: string[] = [];
    for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
      const text = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
      if (text.startsWith('flock\0') && text.includes(this.dir)) holders.push(`lock of process ${pid}`);
    }
    return holders;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { cache, tmp } = this.#before;
    for (const [name, value] of [
      ['FUSEGATE_CACHE', cache],
      ['TMPDIR', tmp],
    ] as const) {
      if (value === undefined) Reflect.deleteProperty(process.env, name);
      else process.env[name] = value;
    }
    await rm(this.dir, { recursive: true, force: true });
  }
}
