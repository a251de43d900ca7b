// region guard
import * as nest from "@nestjs/common";
import { WebError } from "@sessiond/web";
import type { Request, Response } from "express";

/** Lets only users pass who are logged in. */
@nest.Injectable()
export class SessionGuard implements nest.CanActivate {
  async canActivate(context: nest.ExecutionContext): Promise<boolean> {
    await context.switchToHttp().getRequest<Request>().sessiond.require();
    return true;
  }
}

/** Answers errors about sessions, by a page or in JSON as the client accepts. */
@nest.Catch(WebError)
export class SessionErrors implements nest.ExceptionFilter<WebError> {
  catch(error: WebError, host: nest.ArgumentsHost): void {
    const { status, headers, body } = error.answer();
    host.switchToHttp().getResponse<Response>().status(status).set(headers).send(body);
  }
}
// endregion
