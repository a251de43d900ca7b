import {
  Controller,
  Get,
  HttpCode,
  Inject,
  Module,
  Post,
  UnauthorizedException,
  UseGuards,
} from "@nestjs/common";
import { REQUEST } from "@nestjs/core";
import type { Request } from "express";
import { credentials, userWith } from "../yours.js";
import { SessionGuard } from "./session.guard.js";

@Controller()
class AccountController {
  @Inject(REQUEST) private readonly request!: Request;

  @Get()
  @UseGuards(SessionGuard)
  async greet(): Promise<string> {
    return `hello, ${(await this.request.sessiond.require()).userId}`;
  }

  @Post()
  @HttpCode(204)
  async logIn(): Promise<void> {
    const { sessiond, body } = this.request;
    const { name, password } = credentials(body);
    const login = await sessiond.attemptLogin(name, () => userWith(name, password));
    if (login === undefined) throw new UnauthorizedException();
  }
}

@Module({ controllers: [AccountController] })
export class AppModule {}
