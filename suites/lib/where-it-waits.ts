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
