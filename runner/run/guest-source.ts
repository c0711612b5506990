import { Failure } from '#runner/lib/failure.ts';
import { runStage } from '#runner/lib/stage.ts';
import type { PooledGuest } from '#runner/lease/pool.ts';
import type { SavedMachine } from '#runner/machine/saved-machine.ts';
import type { MachineStates, PartContext } from './parts.ts';
import { provedGuest, startGuest, type StartOptions } from './start-guest.ts';

export interface SourceOptions extends StartOptions {
  readonly abi: 'backing-id' | 'fd';
  /** Every machine boots. */
  readonly cold: boolean;
}

/**
 * Where the machines of a run come from: copies of one that was saved after its boot, as long as that works
 * here, else machines that boot.
 */
export class GuestSource {
  readonly #options: SourceOptions;
  readonly #states: MachineStates | undefined;
  #saved: Promise<SavedMachine | undefined> | undefined;
  #works = true;
  /** The first machine's stages are told; a further one is nothing to tell of. */
  #told = false;

  constructor(options: SourceOptions) {
    this.#options = options;
    this.#states = options.cold ? undefined : options.parts.states;
  }

  /** Whether the next machine is going to be a copy. */
  get restores(): boolean {
    return this.#states !== undefined && this.#works;
  }

  /** @param how `cold`: it boots, whatever is saved. */
  async start(name: string, context: PartContext, how = { cold: false }): Promise<PooledGuest> {
    if (this.#states !== undefined && this.#works && !how.cold) {
      const guest = await this.#copy(this.#states, name, context);
      if (guest !== undefined) return guest;
    }
    return startGuest(this.#options, name, context);
  }

  async #copy(states: MachineStates, name: string, context: PartContext): Promise<PooledGuest | undefined> {
    const { out } = this.#options;
    const tell = !this.#told;
    this.#told = true;
    const restored = async (): Promise<Restored | undefined> => {
      this.#saved ??= this.#save(states, context);
      const saved = await this.#saved;
      if (saved === undefined) return undefined;
      try {
        return { guest: await states.restore(saved, { name, out }, context) };
      } catch (error) {
        return this.#giveUp(error, context, () => states.discard(saved));
      }
    };
    const copy = tell ? await this.#asStages(restored, context) : await restored();
    return copy === undefined ? undefined : provedGuest(copy.guest, this.#options.prepared.needs, context);
  }

  /** @returns undefined when there can be no saved machine here: then machines boot. */
  async #save(states: MachineStates, context: PartContext): Promise<SavedMachine | undefined> {
    const { prepared, append, out, abi } = this.#options;
    const { kernel, rootfs, accelerator, bundle, needs } = prepared;
    try {
      const { saved } = await states.save(
        { kernel, rootfs, accelerator, bundle, needs, abi, append, out },
        context,
      );
      return saved;
    } catch (error) {
      return this.#giveUp(error, context);
    }
  }

  /** A kernel that does not boot is a result; all else is only a slower way. */
  async #giveUp(error: unknown, { emit }: PartContext, tidy?: () => Promise<void>): Promise<undefined> {
    if (!(error instanceof Failure)) throw error;
    // A machine that was on its way when the run came to its end says nothing of the others.
    const stopped = error.blame === 'interrupted' || error.code === 'E_MACHINE_STOPPED';
    if (stopped || (error.blame === 'kernel' && error.code !== 'E_NO_PORT')) {
      this.#saved = undefined;
      throw error;
    }
    if (this.#works) {
      emit({ type: 'note', text: `${error.message}; every machine boots from now on (${error.code})` });
    }
    this.#works = false;
    await tidy?.();
    return undefined;
  }

  async #asStages(
    work: () => Promise<Restored | undefined>,
    { emit }: PartContext,
  ): Promise<Restored | undefined> {
    const { kernel, accelerator } = this.#options.prepared;
    const copy = await runStage(
      emit,
      { stage: 'boot', title: `${kernel.release} (${accelerator})` },
      async () => {
        const value = await work();
        const how = value === undefined ? 'not saved' : 'from a saved machine';
        return { value, cached: false, detail: `${kernel.release}, ${accelerator}, ${how}` };
      },
    );
    if (copy === undefined) return undefined;
    return runStage(emit, { stage: 'deploy', title: 'daemon' }, () =>
      Promise.resolve({
        value: copy,
        cached: true,
        detail: `slowdown ${copy.guest.slowdown.toFixed(1)}`,
      }),
    );
  }
}

interface Restored {
  readonly guest: Awaited<ReturnType<MachineStates['restore']>>;
}
