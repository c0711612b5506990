import type { CallOptions, DeployedGuest } from '#runner/guest/guest.ts';
import type { Failure } from '#runner/lib/failure.ts';
import type { BootedMachine } from '#runner/machine/machine.ts';
import type { PooledGuest } from './pool.ts';

type Handler = (params: unknown, options: CallOptions) => unknown;

/** A guest without a machine, for tests of what stands above it. Answers by method; `reset` finds nothing. */
export class FakeGuest {
  readonly calls: string[] = [];
  readonly handlers = new Map<string, Handler>();
  readonly console: string[] = [];
  disposed = false;
  readonly #lost = Promise.withResolvers<Failure>();
  readonly guest: DeployedGuest;
  readonly pooled: PooledGuest;

  constructor(id = 'machine-1', slowdown = 1) {
    this.handlers.set('reset', () => CLEAN);
    this.handlers.set('kernel.mark', () => null);
    this.guest = {
      machine: this.#machine(id),
      deployMs: 1,
      slowdown,
      call: (method, params, options = {}) => this.#call(method, params, options),
      ssh: () => Promise.resolve({ code: 0, stdout: '', stderr: '' }),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    };
    this.pooled = {
      guest: this.guest,
      taint: 0,
      [Symbol.asyncDispose]: () => {
        this.disposed = true;
        return Promise.resolve();
      },
    };
  }

  get machine(): BootedMachine {
    return this.guest.machine;
  }

  lose(failure: Failure): void {
    this.#lost.resolve(failure);
  }

  async #call(method: string, params: unknown, options: CallOptions): Promise<unknown> {
    this.calls.push(method);
    const handler = this.handlers.get(method);
    if (handler === undefined) {
      throw Object.assign(new Error(`there is no ${method}`), { code: 'unknown-method' });
    }
    return await handler(params, options);
  }

  #machine(id: string): BootedMachine {
    return {
      id,
      kernel: {
        key: 'ab',
        bzImage: '/nowhere/bzImage',
        config: undefined,
        vmlinux: undefined,
        release: '6.12.0-fake',
        imageSha256: 'cd',
        profile: 'fake',
        role: 'base',
        series: null,
        patch: null,
      },
      accelerator: 'tcg',
      ssh: { host: '127.0.0.1', port: 1, username: 'root', privateKey: '', hostKey: '' },
      consolePath: '/nowhere/console.log',
      bootMs: 1,
      lost: this.#lost.promise,
      consoleOffset: () => Promise.resolve(this.console.length),
      consoleSince: (offset) => Promise.resolve(this.console.slice(offset)),
      [Symbol.asyncDispose]: () => {
        this.disposed = true;
        return Promise.resolve();
      },
    };
  }
}

const CLEAN = {
  leftMounts: [],
  leftProcesses: [],
  leftConnections: [],
  leftDevices: [],
  backingBusy: false,
  taint: { mask: 0 },
  kernelLog: [],
  requestLogs: [],
  stuck: [],
};
