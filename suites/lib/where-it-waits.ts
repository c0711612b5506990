import type { Client } from './client.ts';
import { eventually } from './eventually.ts';
import type { TestGuest } from './guest.ts';

/** Where a client's only call stands, once that is where it is expected to wait; or `done`, if it has ended. */
export async function whereItWaits(
  guest: TestGuest,
  client: Client,
  { call, at }: { readonly call: Promise<unknown>; readonly at: RegExp },
): Promise<string> {
  let done = false;
  const end = (): void => {
    done = true;
  };
  call.then(end, end);
  return eventually(
    async () => (done ? 'done' : await guest.where(client.pid)),
    (where) => where === 'done' || at.test(where),
  );
}

/**
 * Waits until a client that is sent SIGSTOP shows as stopped, though a call of it goes on in the kernel. By then its
 * other threads have stopped, and the one that waits has the signal.
 */
export async function showsAsStopped(guest: TestGuest, client: Client): Promise<boolean> {
  const stopped = new RegExp(String.raw`^process ${client.pid} \S+ T`);
  const where = await eventually(
    () => guest.where(client.pid),
    (shown) => stopped.test(shown),
  );
  return stopped.test(where);
}
