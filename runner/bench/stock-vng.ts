import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { $ } from 'zx';
import type { KernelImage } from '#kernel/kernel-image.ts';
import { Failure } from '#runner/lib/failure.ts';
import { freePort } from '#runner/machine/free-port.ts';
import type { Accelerator } from '#runner/machine/machine.ts';
import { makeMachineKeys } from '#runner/machine/ssh-keys.ts';
import { findVirtme, type Virtme } from '#runner/machine/virtme.ts';
import type { PartContext } from '#runner/run/parts.ts';
import { endGroup } from '#runner/lib/end-group.ts';
import { stockRootArchive, unpackStockRoot } from './stock-root.ts';

/** Until the first SSH command of a stock guest is done. Milliseconds. */
const LIMIT_MS: Readonly<Record<Accelerator, number>> = { kvm: 60_000, tcg: 240_000 };

export interface StockOptions {
  readonly kernel: KernelImage;
  readonly accelerator: Accelerator;
  /** For logs. */
  readonly out: string;
  /** A directory that somebody removes afterwards. */
  readonly scratch: string;
}

/** `vng --ssh --ssh-tcp` as its documentation has it, ready to be started again and again. */
export class StockVng {
  readonly #options: StockOptions;
  readonly #virtme: Virtme;
  readonly #dir: string;

  private constructor(options: StockOptions, virtme: Virtme, dir: string) {
    this.#options = options;
    this.#virtme = virtme;
    this.#dir = dir;
  }

  /** @throws Failure E_VNG_MISSING and those of stockRootArchive (infra). */
  static async prepare(options: StockOptions, context: PartContext): Promise<StockVng> {
    const virtme = await findVirtme(context.signal);
    const archive = await stockRootArchive(join(options.out, 'stock-root.log'), context);
    const dir = join(options.scratch, 'stock');
    await mkdir(dir);
    const keys = makeMachineKeys();
    const { signal } = context;
    await unpackStockRoot(archive, join(dir, 'root'), { publicKey: keys.authorizedKey, virtme, signal });
    await writeFile(join(dir, 'key'), keys.clientPrivateKey, { mode: 0o600 });
    await mkdir(options.out, { recursive: true });
    return new StockVng(options, virtme, dir);
  }

  /**
   * One boot, from the start of vng until `ssh … true` has succeeded; nothing of it runs on afterwards.
   *
   * @returns seconds.
   * @throws Failure E_BENCH_STOCK (infra) when the guest ends or does not answer in time, or the signal's reason.
   */
  async boot(round: number, signal: AbortSignal): Promise<number> {
    const { kernel, accelerator, out } = this.#options;
    const log = join(out, `stock-${round}.log`);
    const root = join(this.#dir, 'root');
    const port = await freePort();
    const late = AbortSignal.timeout(LIMIT_MS[accelerator]);
    const shell = $({
      cwd: root,
      // The guest finds keys where the host's HOME has them, as it does when it shares the host's root.
      env: { ...process.env, ...this.#virtme.env, HOME: join(root, 'root'), LC_ALL: 'C' },
      signal: AbortSignal.any([signal, late]),
      killSignal: 'SIGKILL',
      detached: true,
      nothrow: true,
      quiet: true,
    });
    const hardware = [
      ...(accelerator === 'tcg' ? ['--disable-kvm'] : []),
      // As our machines have it: only the way of booting shall differ.
      ...['--cpus', accelerator === 'kvm' ? '2' : '1', '--memory', '1G'],
    ];
    const ssh = [
      ...['-i', join(this.#dir, 'key'), '-p', String(port), '-F', 'none'],
      ...['-o', 'IdentitiesOnly=yes', '-o', 'BatchMode=yes', '-o', 'ConnectTimeout=5'],
      ...['-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null', '-o', 'LogLevel=ERROR'],
    ];
    const startedAt = performance.now();
    const running = shell`
      vng --run ${kernel.bzImage} --root ${root} --user root --skip-modules --force-9p ${hardware} \
        --ssh ${port} --ssh-tcp </dev/null >${log} 2>&1 &
      until ssh ${ssh} root@127.0.0.1 true </dev/null 2>>${log}; do
        kill -0 $!
        sleep 0.1
      done`;
    try {
      const { exitCode } = await running;
      const seconds = (performance.now() - startedAt) / 1000;
      if (exitCode === 0) return seconds;
    } finally {
      await endGroup(running.pid);
    }
    signal.throwIfAborted();
    throw stockFailure(late.aborted, accelerator, log);
  }
}

function stockFailure(late: boolean, accelerator: Accelerator, log: string): Failure {
  const what = late
    ? `did not answer over SSH within ${LIMIT_MS[accelerator] / 1000} s`
    : 'ended before it answered over SSH';
  return new Failure('E_BENCH_STOCK', 'infra', `the guest of stock virtme-ng ${what}`, {
    hint: `what vng, QEMU and ssh said is in ${log}`,
    evidence: [{ label: 'stock vng log', path: log }],
  });
}
